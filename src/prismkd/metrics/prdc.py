"""Precision, recall, density and coverage of a set of images against the real set, and their symmetric companions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prismkd.errors import UserError
from prismkd.metrics.arrays import Array, to_numpy
from prismkd.metrics.features import check_features

if TYPE_CHECKING:  # torch takes seconds to import, and is only needed where distances are computed
    from torch import Tensor

CHUNK = 1024  # rows of the distance matrix held at once: 50,000 x 50,000 float64 would take 20 GB
RELATIVE_ROUNDING = 1e-12  # of a squared distance computed from float64 products; a wide margin over 1.1e-16 = 2^-53


class Prdc(NamedTuple):
    """Precision, recall and coverage in [0, 1]; density, at least 0, is 1 in expectation for equal distributions."""

    precision: float
    recall: float
    density: float
    coverage: float


class Neighborhoods(NamedTuple):
    """The values whose means are ``prdc`` and its companions, float64: one per fake (num_fake,) or real (num_real,).

    Attributes:
        precision: 1 where a fake is in any real ball.
        recall: 1 where a real is in any fake ball.
        density: real balls around a fake, over k.
        coverage: 1 where a real's ball holds any fake.
        complement_precision: 1 where a fake's ball holds any real.
    """

    precision: np.ndarray
    recall: np.ndarray
    density: np.ndarray
    coverage: np.ndarray
    complement_precision: np.ndarray


def prdc(real: Array, fake: Array, k: int) -> Prdc:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball around each sample reaches to its k-th neighbor in its own set; the surface does not belong to it. Precision:
    the fakes in any real ball. Recall: the reals in any fake ball. Density: real balls around a fake, over k. Coverage:
    the real balls with any fake inside. All depend on n and k: report them with both and with a real-vs-real ceiling.
    Coverage is blind to contraction, which is what guidance causes: fakes drawn together by a tenth keep a coverage of
    1 while recall halves. So read the four together.

    Args:
        real: features (num_real, num_features), any float type.
        fake: features (num_fake, num_features).
        k: neighbors, at least 1.

    Raises:
        UserError: a set has k or fewer samples, features are not finite, or the two sets do not share num_features.
    """
    found = neighborhoods(real, fake, k)
    return Prdc(*(float(values.mean()) for values in found[:4]))


class Symmetric(NamedTuple):
    """Symmetric precision and symmetric recall, both in [0, 1]."""

    sym_precision: float
    sym_recall: float


def symmetric(found: Neighborhoods) -> Symmetric:
    """Symmetric precision and recall (Khayatkhoei & AbdAlmageed 2023).

    In many dimensions fakes a little inside the real support count as precise and fakes a little outside do not, at the
    same distance, since a ball's reach depends on whose it is; for recall it is the other way round. So each is the
    smaller one of itself and its complement, with the ball around the other of the two samples: precision and the fake
    balls with any real inside, recall and the real balls with any fake inside (which is coverage). With the sets
    swapped one becomes the other.

    Args:
        found: of the two sets.
    """
    precision, recall, _, coverage, complement = (float(values.mean()) for values in found)
    # SymPrecision = min(precision, cPrecision), SymRecall = min(recall, cRecall); cRecall is coverage
    return Symmetric(min(precision, complement), min(recall, coverage))


def class_averaged(real: Array, real_labels: Array, fake: Array, fake_labels: Array, k: int) -> tuple[Prdc, int] | None:
    """The mean over classes of ``prdc`` within each class, and the number of its fakes.

    Pooled values hide a class that lost its modes: its fakes can lie in the balls of another class.

    Args:
        real: features (num_real, num_features).
        real_labels: (num_real,).
        fake: features (num_fake, num_features).
        fake_labels: (num_fake,).
        k: neighbors.

    Returns:
        None where no class has more than k samples in both sets; such classes are left out.
    """
    real, real_labels, fake, fake_labels = map(to_numpy, (real, real_labels, fake, fake_labels))
    values, count = [], 0
    for label in np.unique(real_labels):  # every class weighs the same, however many images it has
        reals, fakes = real[real_labels == label], fake[fake_labels == label]
        if min(len(reals), len(fakes)) > k:
            values.append(prdc(reals, fakes, k))
            count += len(fakes)
    return (Prdc(*map(float, np.mean(values, axis=0))), count) if values else None


def neighborhoods(real: Array, fake: Array, k: int) -> Neighborhoods:
    """For each sample, what ``prdc`` counts of it; arguments and errors as there.

    With B(x) the open ball around x that reaches to its k-th neighbor in its own set, X the reals and Y the fakes:

    precision_j = 1[y_j in some B(x_i)], density_j = 1/k sum_i 1[y_j in B(x_i)],
    recall_i = 1[x_i in some B(y_j)], coverage_i = 1[some y_j in B(x_i)], complement_j = 1[some x_i in B(y_j)].
    """
    import torch

    real, fake = to_numpy(real), to_numpy(fake)
    check_features(real, fake)
    if k < 1 or min(len(real), len(fake)) <= k:
        raise UserError(
            f"expected more than k samples in each set and k >= 1, got k = {k}, {len(real)} real and {len(fake)} fake; "
            "lower k or make more images"
        )
    # Distances don't change with the origin, but the products that they are computed from get smaller, and so do their
    # rounding errors. Both sets move by the same vector.
    center = real.astype(np.float64).mean(axis=0)
    reals, fakes = torch.from_numpy(real - center), torch.from_numpy(fake - center)
    real_radii, fake_radii = _squared_radii(reals, k), _squared_radii(fakes, k)

    num_around_fake = torch.zeros(len(fakes), dtype=torch.int64)
    fake_ball_holds = torch.zeros(len(fakes), dtype=torch.bool)
    covered, recalled = [], []
    for rows, radii in zip(torch.split(reals, CHUNK), torch.split(real_radii, CHUNK), strict=True):
        squared, rounding = _squared_distances(rows, fakes)
        # [i, j]: y_j in B(x_i), and x_i in B(y_j). Adding the rounding makes a tie fall outside, as the ball is open:
        # duplicates across the sets would otherwise be inside or outside by the last bit
        inside_real_ball = squared + rounding < radii[:, None]
        inside_fake_ball = squared + rounding < fake_radii
        num_around_fake += inside_real_ball.sum(dim=0)
        fake_ball_holds |= inside_fake_ball.any(dim=0)
        covered.append(inside_real_ball.any(dim=1))
        recalled.append(inside_fake_ball.any(dim=1))

    return Neighborhoods(
        precision=(num_around_fake > 0).double().numpy(),
        recall=torch.cat(recalled).double().numpy(),
        density=(num_around_fake.double() / k).numpy(),
        coverage=torch.cat(covered).double().numpy(),
        complement_precision=fake_ball_holds.double().numpy(),
    )


def _squared_distances(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """|a|^2 + |b|^2 - 2 a.b, and a bound of its rounding error.

    Without the bound, rounding would decide every tie, and ties are common: duplicates, or samples in both sets.
    """
    norms = rows.square().sum(dim=1)[:, None] + columns.square().sum(dim=1)
    return norms - 2 * rows @ columns.T, RELATIVE_ROUNDING * norms


def _squared_radii(features: Tensor, k: int) -> Tensor:
    """Squared distance of each sample to its k-th neighbor: the (k + 1)-th smallest, as its own 0 is the first."""
    import torch

    chunks = torch.split(features, CHUNK)
    return torch.cat([_squared_distances(rows, features)[0].kthvalue(k + 1).values for rows in chunks])
