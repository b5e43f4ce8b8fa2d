"""The training loop: it learns, and a resumed run equals the uninterrupted one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prismkd.config import DistillationConfig
from prismkd.distillation import CHECKPOINT_EVERY, distill, new_student
from prismkd.errors import UserError
from prismkd.teachers import Classifier

CONFIG = DistillationConfig(architecture="small-resnet-4", num_steps=300, batch_size=16, learning_rate=5e-3)


class BrightSide(nn.Module):
    """A teacher that says whether the left or the right half is brighter."""

    def forward(self, images: Tensor) -> Tensor:
        left, right = images[..., :16].mean((1, 2, 3)), images[..., 16:].mean((1, 2, 3))
        return 20 * torch.stack([left - right, right - left], dim=1)


class InterruptionError(Exception):
    pass


@pytest.fixture
def teacher() -> Classifier:
    return Classifier(BrightSide(), {"num_classes": 2, "in_channels": 1})


@pytest.fixture
def images() -> Tensor:
    x = torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    x[:32, ..., 2:14] += 0.6
    x[32:, ..., 18:30] += 0.6
    return x


def ignore(count: int) -> None:
    pass


def test_the_student_learns_the_teacher(teacher: Classifier, images: Tensor, tmp_path: Path) -> None:
    student = new_student(CONFIG, 2, 1, seed=0)
    distill(student, teacher, images, CONFIG, 0, tmp_path / "c.pt", ignore)
    with torch.no_grad():
        assert (student(images).argmax(1) == teacher(images).argmax(1)).float().mean() > 0.95


def test_resumed_equals_uninterrupted(teacher: Classifier, images: Tensor, tmp_path: Path) -> None:
    whole, broken = new_student(CONFIG, 2, 1, seed=0), new_student(CONFIG, 2, 1, seed=0)
    distill(whole, teacher, images, CONFIG, 0, tmp_path / "whole.pt", ignore)
    steps = iter(range(CHECKPOINT_EVERY + 5))

    def stop(count: int) -> None:
        if next(steps, None) is None:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        distill(broken, teacher, images, CONFIG, 0, tmp_path / "broken.pt", stop)
    resumed = new_student(CONFIG, 2, 1, seed=99)
    distill(resumed, teacher, images, CONFIG, 0, tmp_path / "broken.pt", ignore)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_no_images_and_infinite_losses_are_refused(teacher: Classifier, images: Tensor, tmp_path: Path) -> None:
    student = new_student(CONFIG, 2, 1, seed=0)
    with pytest.raises(UserError, match="got none"):
        distill(student, teacher, images[:0], CONFIG, 0, tmp_path / "c.pt", ignore)
    wild = replace(CONFIG, num_steps=20, learning_rate=1e30)
    with pytest.raises(UserError, match="lower the learning rate"):
        distill(student, teacher, images, wild, 0, tmp_path / "c.pt", ignore)
