from __future__ import annotations

import numpy as np
import pytest

from prismkd.metrics import expected_calibration_error, top1


def binary_logits(confidence: np.ndarray) -> np.ndarray:
    """Logits of two classes whose softmax is (confidence, 1 - confidence)."""
    return np.stack([np.log(confidence), np.log1p(-confidence)], axis=1)


def test_a_perfectly_calibrated_classifier_tends_to_zero() -> None:
    generator = np.random.default_rng(0)

    def error(n: int) -> float:
        confidence = generator.uniform(0.5, 1, n)
        labels = (generator.uniform(size=n) > confidence).astype(int)  # class 0 with probability `confidence`
        return expected_calibration_error(binary_logits(confidence), labels)

    assert error(200_000) < 0.005 < error(200)


def test_certain_and_wrong_is_one_and_certain_and_right_is_zero() -> None:
    logits = np.array([[1000.0, 0.0], [1000.0, 0.0]], dtype=np.float32)
    assert expected_calibration_error(logits, np.array([1, 1])) == pytest.approx(1)
    assert expected_calibration_error(logits, np.array([0, 0])) == pytest.approx(0)


def test_a_constant_confidence_has_the_gap_to_the_accuracy() -> None:
    logits, labels = binary_logits(np.full(10, 0.9)), np.array([0] * 6 + [1] * 4)
    assert top1(logits, labels) == 0.6
    assert expected_calibration_error(logits, labels) == pytest.approx(0.3)


def test_gaps_cancel_within_a_bin_and_add_up_between_bins() -> None:
    logits, labels = binary_logits(np.array([0.6, 0.9])), np.array([0, 1])  # gaps +0.4 and -0.9
    assert expected_calibration_error(logits, labels, num_bins=1) == pytest.approx((0.9 - 0.4) / 2)
    assert expected_calibration_error(logits, labels, num_bins=10) == pytest.approx((0.9 + 0.4) / 2)


def test_a_bin_holds_its_upper_edge() -> None:
    # confidence 1/2 exactly: in (0, 1/2], apart from 0.6 in (1/2, 1]
    logits, labels = np.array([[0.0, 0.0], [np.log(0.6), np.log(0.4)]]), np.array([0, 1])  # gaps +0.5 and -0.6
    assert expected_calibration_error(logits, labels, num_bins=2) == pytest.approx((0.5 + 0.6) / 2)
