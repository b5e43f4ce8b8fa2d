"""Precision, recall, density and coverage of a set of images against the real set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prismkd.errors import UserError

CHUNK = 1024  # rows of the distance matrix held at once
RELATIVE_ROUNDING = 1e-12  # of a squared distance computed from float64 products, with margin


class Prdc(NamedTuple):
    """Fractions in [0, 1], but density: it is 1 in expectation for equal distributions, and may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, fake: np.ndarray, k: int) -> Prdc:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball around each sample reaches to its k-th neighbor in its own set; the surface does not belong to it. Precision:
    the fakes in any real ball. Recall: the reals in any fake ball. Density: real balls around a fake, over k. Coverage:
    the real balls with any fake inside. All depend on n and k: report them with both and with a real-vs-real ceiling.

    Args:
        real: features (num_real, num_features), any float type.
        fake: features (num_fake, num_features).
        k: neighbors, at least 1.

    Raises:
        UserError: a set has k or fewer samples, features are not finite, or the two sets do not share num_features.
    """
    _check(real, fake, k)
    # Distances do not change, but the products that they come from get smaller, and so do their rounding errors
    center = real.astype(np.float64).mean(axis=0)
    reals, fakes = torch.from_numpy(real - center), torch.from_numpy(fake - center)
    real_radii, fake_radii = _squared_radii(reals, k), _squared_radii(fakes, k)

    num_inside_real_balls = torch.zeros(len(fakes), dtype=torch.int64)
    num_covered, num_recalled = 0, 0
    for rows, radii in zip(torch.split(reals, CHUNK), torch.split(real_radii, CHUNK), strict=True):
        squared, rounding = _squared_distances(rows, fakes)
        inside_real_ball = squared + rounding < radii[:, None]
        inside_fake_ball = squared + rounding < fake_radii
        num_inside_real_balls += inside_real_ball.sum(dim=0)
        num_covered += int(inside_real_ball.any(dim=1).sum())
        num_recalled += int(inside_fake_ball.any(dim=1).sum())

    return Prdc(
        precision=float((num_inside_real_balls > 0).double().mean()),
        recall=num_recalled / len(reals),
        density=float(num_inside_real_balls.double().mean()) / k,
        coverage=num_covered / len(reals),
    )


def _squared_distances(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """|a|^2 + |b|^2 - 2 a.b, and a bound of its rounding error.

    Without the bound, rounding would decide every tie, and ties are common: duplicates, or samples in both sets.
    """
    norms = rows.square().sum(dim=1)[:, None] + columns.square().sum(dim=1)
    return norms - 2 * rows @ columns.T, RELATIVE_ROUNDING * norms


def _squared_radii(features: Tensor, k: int) -> Tensor:
    """Squared distance of each sample to its k-th neighbor: the (k + 1)-th smallest, as its own 0 is the first."""
    chunks = torch.split(features, CHUNK)
    return torch.cat([_squared_distances(rows, features)[0].kthvalue(k + 1).values for rows in chunks])


def _check(real: np.ndarray, fake: np.ndarray, k: int) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise UserError(
            f"expected real and fake features (n, num_features), got {real.shape} and {fake.shape}; "
            "do compute both with the same network"
        )
    if k < 1 or min(len(real), len(fake)) <= k:
        raise UserError(
            f"expected more than k samples in each set and k >= 1, got k = {k}, {len(real)} real and {len(fake)} fake; "
            "do lower k or make more images"
        )
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise UserError("expected finite features, got NaN or infinity; do check the network that computed them")
