from __future__ import annotations

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import agreement, correct, top1

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
