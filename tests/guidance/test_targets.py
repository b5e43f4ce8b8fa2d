"""Calibration: targets from unguided samples only."""

import math

import torch

from prismkd.guidance import calibrate


def test_calibration_takes_class_medians_and_shrinks_rare_classes() -> None:
    energies = torch.cat([torch.full((100,), -4.0), torch.full((1,), -9.0), torch.full((100,), -3.0)])
    predictions = torch.tensor([0] * 100 + [1] + [2] * 100)
    found = calibrate(energies, predictions, torch.tensor([2.0, 4.0, 6.0]), num_classes=4)
    assert math.isclose(found.energy_target[0], -4.0, abs_tol=0.1)
    assert -6 < found.energy_target[1] < found.energy_all
    assert found.energy_target[3] == found.energy_all
    assert math.isclose(found.g_floor, 0.4, rel_tol=1e-6)
    assert found.per_class_count == [100, 1, 100, 0]
