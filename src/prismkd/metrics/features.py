"""The check of two sets of features that all metrics of such sets share."""

from __future__ import annotations

import numpy as np

from prismkd.errors import UserError


def check_features(real: np.ndarray, fake: np.ndarray, at_least: int = 1) -> None:
    """Refuse features that can't be compared.

    Args:
        real: features (num_real, num_features).
        fake: features (num_fake, num_features).
        at_least: samples that each set needs.

    Raises:
        UserError: not two matrices of one width, fewer than ``at_least`` samples in one, or values not finite.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise UserError(
            f"expected real and fake features (n, num_features), got {real.shape} and {fake.shape}; "
            "do compute both with the same network"
        )
    if min(len(real), len(fake)) < at_least:
        raise UserError(
            f"expected at least {at_least} samples in each set, got {len(real)} real and {len(fake)} fake; "
            "do make more images"
        )
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise UserError("expected finite features, got NaN or infinity; check the network that computed them")
