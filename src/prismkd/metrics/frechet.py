"""Frechet distance of two sets of features."""

from __future__ import annotations

import numpy as np

from prismkd.metrics.arrays import Array, to_numpy
from prismkd.metrics.features import check_features


def frechet_distance(real: Array, fake: Array) -> float:
    """Squared Frechet distance between Gaussians fitted to both sets (Dowson & Landau 1982; Heusel et al. 2017).

    FD = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with means m and unbiased covariances S. It is the FID where the
    features are InceptionV3's; here they should be those of a network that guided nothing.

    The distance is biased upwards, the more so the fewer samples: compare it only between equal n.

    Args:
        real: features (num_real, num_features), any float type.
        fake: features (num_fake, num_features).

    Raises:
        UserError: fewer than 2 samples in a set, features that are not finite, or other widths.
    """
    real, fake = to_numpy(real), to_numpy(fake)
    check_features(real, fake, at_least=2)
    # With S = R^T R from a QR decomposition of the centered features, tr (S1 S2)^(1/2) is the sum of the singular
    # values of R1 R2^T. The usual square root of the matrix S1 S2 is unstable where there are fewer samples than
    # features (S is singular then), and forming S squares the condition number.
    real_mean, real_root = _mean_and_root(real)
    fake_mean, fake_root = _mean_and_root(fake)
    singular_values = np.linalg.svd(real_root @ fake_root.T, compute_uv=False)
    # tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), with tr S = |R|^2, the sum of its squared entries
    spread = np.square(real_root).sum() + np.square(fake_root).sum() - 2 * singular_values.sum()
    # The spread is never negative but for rounding, where the sets are equal
    return float(np.square(real_mean - fake_mean).sum() + max(spread, 0.0))


def _mean_and_root(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (num_features,), and R (min(n, num_features), num_features) with R^T R the unbiased covariance."""
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    return mean, np.asarray(np.linalg.qr((wide - mean) / np.sqrt(len(wide) - 1), mode="r"))
