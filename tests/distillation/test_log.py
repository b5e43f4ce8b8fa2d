"""Plateaus and vanished classes are reported, and nothing else is."""

from pathlib import Path

import pytest
import torch
from torch import nn

from prismkd.config import DistillationConfig
from prismkd.distillation import TrainingLog, TrainingSet, train
from prismkd.distillation.log import quarter_means, vanished_classes
from tests.distillation.worlds import bright_side, halves, ignore, sides


@pytest.mark.parametrize(
    ("quarters", "plateaued"),
    [((2.0, 1.5, 1.2, 1.1), False), ((2.0, 1.99, 1.0, 0.5), True), ((2.0, 2.3, 2.5, 2.6), True), ((), False)],
)
def test_a_plateau_is_no_fall_from_the_first_quarter_to_the_second(quarters: tuple, plateaued: bool) -> None:
    assert bool(TrainingLog([], quarters, ()).warnings()) is plateaued


def test_a_student_that_cannot_learn_plateaus(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(images), 2)

    config = DistillationConfig(num_steps=120, batch_size=32, ema_decay=0.0)
    log = train(Fixed(), bright_side(), TrainingSet(halves(), sides()), config, 0, tmp_path / "c.pt", ignore)
    first, second = log.warnings(["left", "right"])
    assert "early plateau" in first
    assert "1 vanished classes" in second and ("left" in second or "right" in second)


def test_vanished_are_the_drawn_classes_that_are_never_predicted() -> None:
    class Says(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(5)[torch.arange(len(images)) % 2]

    labels = torch.tensor([0, 1, 3] * 10)
    found = vanished_classes(Says(), TrainingSet(halves(30), labels), torch.device("cpu"))
    assert found == (3,)  # 2 and 4 are not drawn


def test_quarters_are_those_of_the_steps() -> None:
    for num_steps in (40, 41, 42, 43):
        sums = torch.zeros(4)
        for step in range(num_steps):
            sums[min(4 * step // num_steps, 3)] += 1
        assert quarter_means(sums, num_steps) == (1.0, 1.0, 1.0, 1.0)
