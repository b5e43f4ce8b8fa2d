"""Plateaus and vanished classes are reported, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from prismkd.config import DistillationConfig
from prismkd.distillation import TrainingLog, TrainingSet, new_student, train
from prismkd.distillation.log import NUM_PARTS, curve_of, look_back, part_of, quarter_means
from tests.distillation.worlds import CONFIG, bright_side, halves, ignore, sides


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


class Says(nn.Module):
    """0, 1, 0, 1 and so on, of five classes."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.eye(5)[torch.arange(len(images)) % 2]


def test_vanished_are_the_drawn_classes_that_are_never_predicted() -> None:
    labels = torch.tensor([0, 1, 3] * 10)
    found = look_back(Says(), TrainingSet(halves(30), labels), torch.device("cpu"))
    assert found.vanished == (3,)  # 2 and 4 are not drawn


def test_a_student_is_held_against_the_labels_and_the_teacher_on_its_own_training_images() -> None:
    labels = torch.tensor([0, 1, 3, 3] * 5)  # it says 0, 1, 0, 1

    def teacher(indices: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return torch.eye(5)[torch.where(indices < 15, indices % 2, 4)]

    found = look_back(Says(), TrainingSet(halves(20), labels), torch.device("cpu"), teacher=teacher)
    assert (found.train_top1, found.train_agreement) == (0.5, 0.75)
    alone = look_back(Says(), TrainingSet(halves(20)), torch.device("cpu"))
    assert (alone.vanished, alone.train_top1, alone.train_agreement) == ((), None, None)


def test_a_trained_student_agrees_with_its_teacher_on_its_training_images(tmp_path: Path) -> None:
    config, student = replace(CONFIG, num_steps=150, ema_decay=0.9), new_student(CONFIG, 2, 1, seed=0)
    log = train(student, bright_side(), TrainingSet(halves(), sides()), config, 0, tmp_path / "c.pt", ignore)
    assert log.train_top1 == log.train_agreement == 1.0 and log.vanished == ()
    assert len(log.curve) == NUM_PARTS and log.curve[-1] < log.curve[0]
    assert log.to_dict()["train_agreement"] == 1.0


def test_the_fast_mode_knows_the_teacher_s_answers_to_its_training_images(tmp_path: Path) -> None:
    config, student = replace(CONFIG, num_steps=4, stored_logits=True), new_student(CONFIG, 2, 1, seed=0)
    log = train(student, bright_side(), TrainingSet(halves(), sides()), config, 0, tmp_path / "c.pt", ignore)
    assert log.train_agreement == log.train_top1 is not None  # the teacher gives every image its label
    assert len(log.curve) == 4 and log.quarters == ()


def test_parts_and_quarters_are_those_of_the_steps() -> None:
    for num_steps in (1, 7, 39, 40, 41, 42, 43, 1000):
        sums = torch.zeros(NUM_PARTS)
        for step in range(num_steps):
            sums[part_of(step, num_steps)] += 1
        assert curve_of(sums, num_steps) == (1.0,) * min(num_steps, NUM_PARTS)
        assert quarter_means(sums, num_steps) == ((1.0,) * 4 if num_steps >= 40 else ())


def test_the_mean_of_a_curve_s_ten_parts_is_its_quarter() -> None:
    sums = torch.arange(40.0)
    assert quarter_means(sums, 40) == (4.5, 14.5, 24.5, 34.5) and curve_of(sums, 40) == tuple(range(40))
