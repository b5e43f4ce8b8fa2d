from __future__ import annotations

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import bootstrap_interval


def test_the_interval_is_the_normal_one_for_many_samples() -> None:
    n, p = 2000, 0.3
    values = (np.arange(n) < p * n).astype(float)
    half_width = 1.96 * np.sqrt(p * (1 - p) / n)
    low, high = bootstrap_interval(values, seed=0, num_resamples=4000)
    assert (low, high) == pytest.approx((p - half_width, p + half_width), abs=0.1 * half_width)


def test_the_interval_covers_the_true_mean_at_its_level() -> None:
    generator = np.random.default_rng(0)
    intervals = [
        bootstrap_interval(generator.normal(size=100), seed, num_resamples=200, level=0.8) for seed in range(300)
    ]
    coverage = np.mean([low < 0 < high for low, high in intervals])
    assert coverage == pytest.approx(0.8, abs=0.07)  # 3 standard errors of 300 trials


def test_constant_values_have_no_width() -> None:
    assert bootstrap_interval(np.full(5, 0.25), seed=0) == (0.25, 0.25)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(UserError, match=r"at least 2 values .* got shape \(1,\)"):
        bootstrap_interval(np.ones(1), seed=0)
