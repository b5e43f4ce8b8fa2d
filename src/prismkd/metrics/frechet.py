"""Frechet distance of two sets of features."""

from __future__ import annotations

import numpy as np

from prismkd.metrics.features import check_features


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Squared Frechet distance between Gaussians fitted to both sets (Dowson & Landau 1982; Heusel et al. 2017).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with unbiased covariances S. Here S = R^T R of a QR decomposition of
    the centered features, and then tr (S1 S2)^(1/2) is the sum of the singular values of R1 R2^T. So no covariance is
    squared and no root of a matrix taken, which fail where there are fewer samples than features.

    The distance is biased upwards, the more so the fewer samples: compare it only between equal n.

    Args:
        real: features (num_real, num_features), any float type.
        fake: features (num_fake, num_features).

    Raises:
        UserError: fewer than 2 samples in a set, features that are not finite, or other widths.
    """
    check_features(real, fake, at_least=2)
    real_mean, real_root = _mean_and_root(real)
    fake_mean, fake_root = _mean_and_root(fake)
    singular_values = np.linalg.svd(real_root @ fake_root.T, compute_uv=False)
    # tr S = |R|^2, the sum of its squared entries
    spread = np.square(real_root).sum() + np.square(fake_root).sum() - 2 * singular_values.sum()
    return float(np.square(real_mean - fake_mean).sum() + max(spread, 0.0))


def _mean_and_root(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and R with R^T R the unbiased covariance."""
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    return mean, np.asarray(np.linalg.qr((wide - mean) / np.sqrt(len(wide) - 1), mode="r"))
