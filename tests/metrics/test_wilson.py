from __future__ import annotations

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (128, 256), (10, 10)])
def test_its_ends_are_where_the_score_test_stops_rejecting(hits: int, n: int) -> None:
    """(p - q)^2 = z^2 q (1 - q) / n at both ends q, which are the roots, or the limits of a share."""
    for end in wilson_interval(hits, n):
        assert (hits / n - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, abs=1e-6)


def test_many_samples_have_the_normal_interval() -> None:
    half_width = 1.96 * np.sqrt(0.3 * 0.7 / 1e6)
    assert wilson_interval(300_000, 1_000_000) == pytest.approx((0.3 - half_width, 0.3 + half_width), abs=1e-5)


def test_all_hits_still_leave_doubt() -> None:
    low, high = wilson_interval(38, 38)
    assert (low, high) == pytest.approx((0.908, 1), abs=1e-3)
    assert wilson_interval(0, 38) == pytest.approx((0, 1 - low))


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_counts_that_cannot_be_are_refused(hits: int, n: int) -> None:
    with pytest.raises(UserError, match="expected 0 to n hits"):
        wilson_interval(hits, n)
