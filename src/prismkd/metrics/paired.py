"""Two classifiers on the same test images: is one better than the other?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prismkd.config.seeds import check_seed
from prismkd.errors import UserError
from prismkd.metrics.arrays import Array, to_numpy


def sign_test(differences: Array) -> float:
    """Two-sided p-value of the exact sign test; with one seed it is McNemar's exact test (McNemar 1947).

    An image counts for B where B's students get it right under more seeds than A's, for A where under fewer. If neither
    is better, each of the images that count falls to either side with probability 1/2. So several seeds of one image
    are one observation, which they are: counted apart they would make chance look significant.

    p = min(1, 2 sum_{i <= min(b, w)} C(b + w, i) / 2^(b + w), with b images better and w worse.

    Args:
        differences: right answers of B minus those of A, integers in {-1, 0, 1}, (num_seeds, num_images).

    Returns:
        A p-value in (0, 1]; 1 where no image counts.
    """
    sums = to_numpy(differences).sum(axis=0)
    better, worse = int((sums > 0).sum()), int((sums < 0).sum())
    # In whole numbers, since C(n, i) of ten thousand images overflows floats; C(n, i + 1) = C(n, i) (n - i) / (i + 1)
    total, term, tail = better + worse, 1, 1
    for count in range(min(better, worse)):
        term = term * (total - count) // (count + 1)  # binomial coefficient (total over count + 1)
        tail += term
    return min(1.0, 2 * tail / 2**total)


def paired_interval(
    differences: Array, seed: int, num_resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``differences`` over images, and over seeds where there are several.

    Images and seeds are drawn with replacement, independently of each other (Owen 2007: the pigeonhole bootstrap), so
    that the interval holds for other images and other trainings. With few seeds their part is coarse.

    Args:
        differences: as in ``sign_test``.
        seed: of the draws.
        num_resamples: draws.
        level: coverage, in (0, 1).

    Raises:
        UserError: fewer than 2 images, or a seed out of range.
    """
    differences = to_numpy(differences)
    num_seeds, num_images = differences.shape
    if num_images < 2:
        raise UserError(f"expected at least 2 test images, got {num_images}; evaluate on at least 2 images")
    # Images with the same differences under all seeds are exchangeable: drawing how many of each pattern come, by one
    # multinomial, gives the same distribution as drawing images, for a handful of patterns instead of 50,000 images
    patterns, counts = np.unique(differences, axis=1, return_counts=True)
    random = np.random.default_rng(check_seed(seed))
    drawn_images = random.multinomial(num_images, counts / num_images, size=num_resamples) / num_images
    drawn_seeds = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_resamples) / num_seeds
    # mean*_r = sum_s sum_p w_rs d_sp v_rp with the resample's shares w of the seeds and v of the patterns
    means = np.einsum("rs,sp,rp->r", drawn_seeds, patterns, drawn_images, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for asking several questions at once (Holm 1979), in the given order.

    With p_(1) <= ... <= p_(m): p~_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)). The chance of one false claim among all
    stays below the level, however the questions depend on each other; no p-value gets larger than by Bonferroni.

    Args:
        p_values: uncorrected, in [0, 1].
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [math.nan] * len(p_values), 0.0
    for place, index in enumerate(order):  # place counts from 0, so m - j + 1 is len - place
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected
