"""Allocation: more for classes and styles that still bring new things."""

import numpy as np
import pytest

from prismkd.prompts.allocation import HIGHEST, LOWEST, allocate, bounded_factors, nearest_distances


def test_a_class_of_repeats_gets_less_than_a_class_of_singles() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.normal(size=(2, 8)), 20, 0) + 1e-3 * rng.normal(size=(40, 8))
    new = 5 * rng.normal(size=(40, 8))
    labels = np.repeat([0, 1], 40)
    found = allocate(
        np.concatenate([same, new]), labels, np.tile([0, 1], 40), np.ones(80, bool), 2, np.array([0.5, 0.5])
    )
    assert found.class_shares[0] < 0.35 < 0.65 < found.class_shares[1]
    assert sum(found.class_shares) == pytest.approx(1)
    assert found.style_factors[0] == pytest.approx(found.style_factors[1], rel=0.3)


def test_strangeness_that_the_teacher_refuses_earns_nothing() -> None:
    rng = np.random.default_rng(0)
    features, labels = 5 * rng.normal(size=(80, 8)), np.repeat([0, 1], 40)
    features[labels == 0] *= 0.1
    features[np.flatnonzero(labels == 1)[:4]] += 100
    accepted = np.ones(80, bool)
    accepted[labels == 1] = False
    found = allocate(features, labels, np.zeros(80, int), accepted, 2, np.ones(1))
    assert found.class_novelty[1] == 0.5  # nothing is known of it: average


def test_equal_classes_get_equal_shares() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 4
    found = allocate(rng.normal(size=(4000, 4)), labels, np.zeros(4000, int), np.ones(4000, bool), 4, np.ones(1))
    assert found.class_shares == pytest.approx([0.25] * 4, abs=0.03)
    assert found.style_factors == [1.0]


@pytest.mark.parametrize("novelty", [[0.1] * 9 + [1.0], [0.05] + [0.9] * 5, [0.5] * 4, [0.01, 0.02, 0.9]])
def test_factors_stay_within_bounds_and_keep_the_sum(novelty: list[float]) -> None:
    weights = np.arange(1.0, len(novelty) + 1)
    factors = bounded_factors(np.array(novelty), weights / weights.sum())
    assert (factors >= LOWEST).all() and (factors <= HIGHEST).all()
    assert (weights / weights.sum() * factors).sum() == pytest.approx(1)
    assert (np.diff(factors[np.argsort(novelty)]) >= 0).all()


def test_distances_are_to_the_nearest_of_the_same_class() -> None:
    features = np.array([[0.0], [1.0], [1.5], [3.0]])
    assert nearest_distances(features, np.array([0, 0, 1, 0])).tolist() == [1.0, 1.0, np.inf, 2.0]
