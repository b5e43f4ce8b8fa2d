"""Calibration: targets from unguided samples only, by laws that hold for any of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prismkd.guidance import Calibration, calibration_from

NUM_CLASSES = 4
EIGHTHS = st.integers(-400, 400).map(lambda number: number / 8)  # sums of which are exact
SAMPLES = st.lists(st.tuples(EIGHTHS, st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=40)
Samples = list[tuple[float, int]]


def calibrated(samples: Samples, gradients: list[float] | None = None) -> Calibration:
    energies, predictions = zip(*samples, strict=True)
    return calibration_from(
        torch.tensor(energies), torch.tensor(predictions), torch.tensor(gradients or []), NUM_CLASSES
    )


def median(values: list[float]) -> float:
    """The lower one of two."""
    return sorted(values)[(len(values) - 1) // 2]


@given(SAMPLES)
def test_a_target_lies_between_the_medians_of_its_class_and_of_all_as_the_count_says(samples: Samples) -> None:
    found, overall = calibrated(samples), median([energy for energy, _ in samples])
    assert found.energy_all == overall
    for label in range(NUM_CLASSES):
        own = [energy for energy, prediction in samples if prediction == label]
        n = len(own)
        assert found.per_class_count[label] == n
        expected = n / (n + 4) * median(own) + 4 / (n + 4) * overall if own else overall
        assert found.energy_target[label] == pytest.approx(expected, abs=1e-6)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_the_order_of_samples_is_no_matter(samples: Samples, random) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)
    assert calibrated(shuffled) == calibrated(samples)


@given(SAMPLES, EIGHTHS)
def test_a_teacher_with_another_offset_has_targets_with_that_offset(samples: Samples, offset: float) -> None:
    """A cross-entropy leaves the offset of logits free, and with it that of energies."""
    shifted = calibrated([(energy + offset, label) for energy, label in samples])
    expected = [target + offset for target in calibrated(samples).energy_target]
    assert shifted.energy_target == pytest.approx(expected, abs=1e-6)


@given(SAMPLES, st.data())
def test_no_target_falls_where_an_energy_rises(samples: Samples, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(samples) - 1))
    raised = [(energy + 8 * (number == place), label) for number, (energy, label) in enumerate(samples)]
    pairs = zip(calibrated(samples).energy_target, calibrated(raised).energy_target, strict=True)
    assert all(after >= before for before, after in pairs)


@given(st.lists(st.floats(0.125, 8), min_size=1, max_size=20), st.integers(-3, 3))
def test_the_floor_of_gradients_is_a_tenth_of_the_usual_size_in_any_unit(gradients: list[float], power: int) -> None:
    samples, unit = [(0.0, 0)], 2.0**power
    found = calibrated(samples, gradients).g_floor
    assert found == pytest.approx(median(gradients) / 10, rel=1e-6)
    assert calibrated(samples, [unit * size for size in gradients]).g_floor == pytest.approx(unit * found, rel=1e-6)
    assert calibrated(samples).g_floor == 0
