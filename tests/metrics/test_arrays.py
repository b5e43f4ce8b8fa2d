"""Metrics say the same of a torch tensor as of a numpy array, to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prismkd import metrics
from prismkd.metrics.arrays import to_numpy

RANDOM = np.random.default_rng(0)
REAL, FAKE = RANDOM.normal(size=(40, 6)).astype(np.float32), RANDOM.normal(size=(30, 6)).astype(np.float32)
LOGITS, LABELS = RANDOM.normal(size=(40, 8)), np.arange(40) % 8
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "prdc": (metrics.prdc, (REAL, FAKE, 5)),
    "neighborhoods": (metrics.neighborhoods, (REAL, FAKE, 5)),
    "class_averaged": (metrics.class_averaged, (REAL, LABELS, FAKE, LABELS[:30], 2)),
    "frechet_distance": (metrics.frechet_distance, (REAL, FAKE)),
    "kernel_distance": (metrics.kernel_distance, (REAL, FAKE, 3)),
    "vendi_score": (metrics.vendi_score, (REAL, 0.5)),
    "correct": (metrics.correct, (LOGITS, LABELS)),
    "correct_in_top": (metrics.correct_in_top, (LOGITS, LABELS, 3)),
    "top1": (metrics.top1, (LOGITS, LABELS)),
    "agreement": (metrics.agreement, (LOGITS, LOGITS + 0.1 * LABELS[:, None] * LOGITS**2)),
    "per_class": (metrics.per_class, (LOGITS[:, 0], LABELS, 9)),
    "vanished": (metrics.vanished, (LOGITS[:10], LABELS[:10])),
    "expected_calibration_error": (metrics.expected_calibration_error, (LOGITS, LABELS)),
    "bootstrap_interval": (metrics.bootstrap_interval, (LOGITS[:, 0], 1)),
    "sign_test": (metrics.sign_test, (np.sign(LOGITS.T).astype(int),)),
    "paired_interval": (metrics.paired_interval, (np.sign(LOGITS.T).astype(int), 1, 50)),
}


def as_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(value)
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_gives_what_an_array_gives(name: str) -> None:
    function, arguments = CALLS[name]
    expected, found = function(*arguments), function(*map(as_tensor, arguments))
    np.testing.assert_equal(found, expected)
    assert type(found) is type(expected) and not isinstance(found, torch.Tensor)


def test_every_metric_of_arrays_is_tried() -> None:
    others = {"Neighborhoods", "Prdc", "Symmetric", "symmetric", "holm", "wilson_interval"}  # of results and counts
    assert set(metrics.__all__) == {*CALLS, *others}


def test_an_array_is_passed_on_as_it_is_and_half_precision_is_widened() -> None:
    assert to_numpy(REAL) is REAL
    half = torch.from_numpy(REAL).bfloat16()
    assert to_numpy(half).dtype == np.float32 and np.array_equal(to_numpy(half), half.float().numpy())
    assert np.array_equal(to_numpy([[1, 2], [3, 4]]), [[1, 2], [3, 4]])  # type: ignore[arg-type]
