from __future__ import annotations

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import agreement, correct, correct_in_top, per_class, top1, vanished

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0], [9.0, 8.0, 7.0]])


def test_accuracy_counts_the_largest_logit() -> None:
    labels = np.array([0, 1, 2, 1])
    assert correct(LOGITS, labels).tolist() == [1.0, 1.0, 1.0, 0.0]
    assert top1(LOGITS, labels) == 0.75


def test_agreement_depends_on_predictions_only() -> None:
    assert agreement(10 * LOGITS - 3, LOGITS) == 1.0
    assert agreement(-LOGITS, LOGITS) == 0.0
    assert agreement(np.roll(LOGITS, 1, axis=0), LOGITS) == 0.25


def test_a_label_per_image_is_required() -> None:
    with pytest.raises(UserError, match=r"got \(4, 3\) and \(4, 1\)"):
        top1(LOGITS, np.zeros((4, 1), dtype=int))
    with pytest.raises(UserError, match=r"n >= 1"):
        top1(LOGITS[:0], np.zeros(0, dtype=int))
    with pytest.raises(UserError, match=r"one shape"):
        agreement(LOGITS[:3], LOGITS)


def test_a_diverged_network_is_not_scored() -> None:
    with pytest.raises(UserError, match=r"finite logits"):
        top1(np.full((2, 3), np.nan), np.zeros(2, dtype=int))


def test_the_top_of_one_is_top1_and_the_top_of_all_is_everything() -> None:
    logits, labels = np.random.default_rng(0).integers(0, 3, size=(200, 6)).astype(float), np.arange(200) % 6  # ties
    assert correct_in_top(logits, labels, 1).tolist() == correct(logits, labels).tolist()
    assert correct_in_top(logits, labels, 6).all()
    hits = [correct_in_top(logits, labels, k).mean() for k in range(1, 7)]
    assert hits == sorted(hits) and hits[0] < hits[2] < 1


def test_the_second_largest_is_in_the_top_two() -> None:
    assert correct_in_top(LOGITS, np.array([1, 0, 1, 2]), 2).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_accuracy_per_class_and_classes_that_vanished() -> None:
    labels = np.array([0, 1, 2, 1])
    assert per_class(correct(LOGITS, labels), labels, 4) == [1.0, 0.5, 1.0, None]
    assert vanished(LOGITS, labels) == []
    assert vanished(LOGITS[[0, 3, 3]], np.array([0, 1, 2])) == [1, 2]
