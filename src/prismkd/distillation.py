"""The training loop: a student learns the teacher's logits on augmented views of the images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from prismkd.augmentation import random_views
from prismkd.config import DistillationConfig
from prismkd.errors import UserError
from prismkd.losses import distillation_loss
from prismkd.precision import fast_matmul
from prismkd.students import new_network
from prismkd.teachers import Classifier

CHECKPOINT_EVERY = 250


def distill(
    student: nn.Module,
    teacher: Classifier,
    images: Tensor,
    config: DistillationConfig,
    seed: int,
    checkpoint: Path,
    progress: Callable[[int], None],
) -> list[dict[str, float]]:
    """Train ``student`` in place; teacher and student see the same view (Beyer et al. 2022).

    Every step draws from its own generator, so a resumed run equals the uninterrupted one.

    Args:
        student: network of images (batch, channels, height, width) in [0, 1].
        teacher: the classifier to imitate.
        images: (n, channels, height, width) in [0, 1]; labels aren't used.
        config: recipe.
        seed: of batches and views.
        checkpoint: where progress is kept until the training is complete.
        progress: called with the number of steps just finished.

    Returns:
        The log: step, loss and learning rate at every checkpoint.

    Raises:
        UserError: no images, or the loss isn't finite.
    """
    if len(images) == 0:
        raise UserError("expected images to distil from, got none; run `prismkd synthesize` first")
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    first, log = 0, []
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        average, first, log = state["average"], state["step"], state["log"]
        progress(first)
    student.train().to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last)
    for step in range(first, config.num_steps):
        rate = _learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        index = torch.randint(len(images), (config.batch_size,), generator=generator)
        views = random_views(images[index], generator=generator).contiguous(memory_format=torch.channels_last)
        with fast_matmul(views.device):
            with torch.no_grad():
                teacher_logits = teacher(views)
            student_logits = student(views)
        loss = distillation_loss(student_logits.float(), teacher_logits.float(), config.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _update_average(average, student, min(config.ema_decay, (step + 1) / (step + 10)))
        progress(1)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == config.num_steps:
            log.append({"step": step + 1, "loss": round(loss.item(), 5), "lr": round(rate, 8)})
            _check_finite(loss, step)
            _save(checkpoint, {"student": student.state_dict(), "optimizer": optimizer.state_dict(),
                               "average": average, "step": step + 1, "log": log})  # fmt: skip
    student.load_state_dict(average)
    student.eval()
    return log


def new_student(config: DistillationConfig, num_classes: int, in_channels: int, seed: int) -> nn.Module:
    """An untrained student; the same seed gives the same initial weights for every method."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return new_network(config.architecture, num_classes, in_channels=in_channels)


def _learning_rate(config: DistillationConfig, step: int) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine to zero."""
    warm_up = max(1, config.num_steps // 20)
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / config.num_steps)
    return config.learning_rate * min(1.0, (step + 1) / warm_up) * cosine


@torch.no_grad()
def _update_average(average: dict[str, Tensor], student: nn.Module, decay: float) -> None:
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, 1 - decay)
        else:
            average[name].copy_(tensor)


def _check_finite(loss: Tensor, step: int) -> None:
    if not math.isfinite(loss.item()):
        raise UserError(f"expected a finite loss, got {loss.item()} at step {step}; lower the learning rate")


def _save(path: Path, state: dict) -> None:
    """Replace the checkpoint at once, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
