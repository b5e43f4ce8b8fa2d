"""Kernel distance of two sets of features, known as KID where the features are InceptionV3's."""

from __future__ import annotations

import numpy as np

from prismkd.config.seeds import check_seed
from prismkd.metrics.arrays import Array, to_numpy
from prismkd.metrics.features import check_features

MAX_SUBSET = 1000  # torch-fidelity's, so that values compare


def kernel_distance(real: Array, fake: Array, num_subsets: int = 100, seed: int = 2020) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / num_features + 1)^3 (Binkowski et al. 2018: KID).

    The unbiased estimate, averaged over random subsets, with the same draws and defaults as torch-fidelity: 100 subsets
    of 1,000 samples of each set, or of the smaller set's size where that has fewer. It doesn't grow as samples get
    fewer, and may be slightly negative for equal distributions.

    Args:
        real: features (num_real, num_features), any float type.
        fake: features (num_fake, num_features).
        num_subsets: draws that are averaged.
        seed: of the draws.

    Raises:
        UserError: fewer than 2 samples in a set, features that are not finite, other widths, or a seed out of range.
    """
    real, fake = to_numpy(real), to_numpy(fake)
    check_features(real, fake, at_least=2)
    size = min(MAX_SUBSET, len(real), len(fake))
    # torch-fidelity's generator, which takes 32 bits as a number, and more as several.
    random = np.random.RandomState(seed if check_seed(seed) < 2**32 else [seed % 2**32, seed >> 32])
    distances = []
    for _ in range(num_subsets):
        one = real[random.choice(len(real), size, replace=False)].astype(np.float64)
        other = fake[random.choice(len(fake), size, replace=False)].astype(np.float64)
        distances.append(_unbiased_mmd2(one, other))
    return float(np.mean(distances))


def _unbiased_mmd2(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased estimate of the squared MMD (Gretton et al. 2012, lemma 6), for two sets of equal size n.

    MMD^2 = 1/(n (n - 1)) sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] - 2/n^2 sum_{i, j} k(x_i, y_j)
    """
    n = len(one)
    # The traces go since i != j: a sample compared with itself would bias the estimate upwards
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(one, one), _kernel(other, other)))
    return float(within / (n * (n - 1)) - 2 * _kernel(one, other).mean())


def _kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cubic polynomial kernel k(x, y) = (x.y / num_features + 1)^3 of all pairs (Binkowski et al. 2018)."""
    return (one @ other.T / one.shape[1] + 1) ** 3
