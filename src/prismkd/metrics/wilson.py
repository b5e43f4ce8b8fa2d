"""Wilson's confidence interval of a share."""

from __future__ import annotations

import math
from statistics import NormalDist

from prismkd.errors import UserError


def wilson_interval(num_hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the share of hits among n independent samples (Wilson 1927), in [0, 1].

    With p = num_hits / n and the normal quantile z it is

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    It keeps its width where all samples are hits, or none: a bootstrap of equal values has none there.

    Args:
        num_hits: from 0 to n.
        n: at least 1.
        level: coverage, in (0, 1).

    Raises:
        UserError: no sample, or more hits than samples.
    """
    if not 0 <= num_hits <= n or n < 1:
        raise UserError(f"expected 0 to n hits among n >= 1 samples, got {num_hits} among {n}; pass counts")
    p, z = num_hits / n, NormalDist().inv_cdf((1 + level) / 2)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((p + z**2 / (2 * n) + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)
