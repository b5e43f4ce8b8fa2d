from __future__ import annotations

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import holm, paired_interval, sign_test


def differences(better: int, worse: int, equal: int) -> np.ndarray:
    return np.array([[1] * better + [-1] * worse + [0] * equal], dtype=np.int8)


@pytest.mark.parametrize(("better", "worse"), [(7, 1), (1, 7), (4, 4), (30, 12), (900, 700)])
def test_one_seed_is_mcnemars_exact_test(better: int, worse: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(better, better + worse, 0.5).pvalue
    assert sign_test(differences(better, worse, 50)) == pytest.approx(expected, rel=1e-9)


def test_no_difference_is_no_evidence() -> None:
    assert sign_test(differences(0, 0, 10)) == 1.0


def test_the_same_seed_thrice_is_no_more_evidence_than_once() -> None:
    once = differences(9, 1, 20)
    assert sign_test(np.repeat(once, 3, axis=0)) == sign_test(once)


def test_seeds_that_contradict_each_other_cancel() -> None:
    one = differences(9, 1, 20)
    assert sign_test(np.concatenate([one, -one])) == 1.0


def test_the_interval_of_one_seed_has_the_binomial_width() -> None:
    random = np.random.default_rng(0)
    values = random.choice([-1, 0, 1], p=[0.1, 0.6, 0.3], size=(1, 4000))
    low, high = paired_interval(values, seed=0)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.002)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(4000), rel=0.05)


def test_seeds_that_disagree_widen_the_interval() -> None:
    agreeing = np.tile(differences(30, 10, 60), (3, 1))
    disagreeing = np.stack([differences(50, 0, 50)[0], differences(30, 10, 60)[0], differences(10, 20, 70)[0]])
    assert agreeing.mean() == pytest.approx(disagreeing.mean(), abs=0.01)
    narrow, wide = (np.diff(paired_interval(values, seed=0))[0] for values in (agreeing, disagreeing))
    assert wide > 1.5 * narrow


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(0), 0
    for trial in range(200):
        values = random.choice([-1, 0, 1], p=[0.1, 0.7, 0.2], size=(1, 300))
        low, high = paired_interval(values, seed=trial, num_resamples=1000)
        covered += low <= 0.1 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_holm_corrects_step_by_step_and_never_reorders() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


def test_one_image_has_no_interval() -> None:
    with pytest.raises(UserError, match="at least 2 test images, got 1"):
        paired_interval(np.array([[1]]), seed=0)
