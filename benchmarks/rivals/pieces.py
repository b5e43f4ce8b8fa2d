"""What several rivals are made of. All losses are means over a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_WEIGHT = 0.1  # the authors' 10 leaves nothing of the label's loss on small teachers
BETAS = (0.5, 0.999)  # of every Adam here
SHIFT = 4  # pixels by which a view is moved at most


class BatchNormStatistics:
    """How far the inputs of a teacher's batch norms are from what they have seen in the training.

    ``sum over layers |mean(x) - running_mean|_2 + |var(x) - running_var|_2`` (DeepInversion, Yin et al. 2020).
    With a momentum the statistics are mixed with those of the batches before (Fast, Fang et al. 2022). Without any
    batch norm it is 0.
    """

    def __init__(self, teacher: nn.Module, momentum: float = 0.0) -> None:
        self.layers = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        self.momentum, self._handles = momentum, list[torch.utils.hooks.RemovableHandle]()
        self._now: list[tuple[Tensor, Tensor]] = [(torch.zeros(()), torch.zeros(()))] * len(self.layers)
        self._before: list[tuple[Tensor, Tensor]] | None = None
        # (batch, channels), of single images
        self.instance_means: list[Tensor] = [torch.zeros(())] * len(self.layers)
        self._instance_variances: list[Tensor] = [torch.zeros(())] * len(self.layers)

    def __enter__(self) -> Self:
        self._handles = [layer.register_forward_pre_hook(self._hook(place)) for place, layer in enumerate(self.layers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, place: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            self._now[place] = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            self.instance_means[place] = x.mean((2, 3))
            self._instance_variances[place] = x.var((2, 3), unbiased=False)

        return look

    def loss(self) -> Tensor:
        """Of the teacher's last forward pass, a scalar."""
        total = torch.zeros(())
        for place, layer in enumerate(self.layers):
            assert layer.running_mean is not None and layer.running_var is not None
            mean, variance = self._now[place]
            if self._before is not None:
                old_mean, old_variance = self._before[place]
                mean = (1 - self.momentum) * mean + self.momentum * old_mean
                variance = (1 - self.momentum) * variance + self.momentum * old_variance
            total = total + torch.norm(layer.running_mean - mean) + torch.norm(layer.running_var - variance)
        return total

    def losses_of_images(self) -> Tensor:
        """As ``loss``, of every image (batch,) as if it were alone; a scalar 0 without batch norm."""
        total = torch.zeros(())
        for layer, means, variances in zip(self.layers, self.instance_means, self._instance_variances, strict=True):
            assert layer.running_mean is not None and layer.running_var is not None
            total = total + (means - layer.running_mean).norm(dim=1) + (variances - layer.running_var).norm(dim=1)
        return total

    def remember(self) -> None:
        """Let the statistics of the last forward pass count, by the momentum, in those to come."""
        now = [(mean.detach(), variance.detach()) for mean, variance in self._now]
        rate, before = self.momentum, self._before or now
        self._before = [
            (rate * old_mean + (1 - rate) * mean, rate * old_variance + (1 - rate) * variance)
            for (old_mean, old_variance), (mean, variance) in zip(before, now, strict=True)
        ]


def adversarial_losses(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """``-KL(teacher || student)`` (batch,) where both give the same class, else 0 (CMI, Fang et al. 2021).

    Args:
        student_logits, teacher_logits: (batch, classes).
    """
    teacher = teacher_logits.log_softmax(1)
    divergence = (teacher.exp() * (teacher - student_logits.log_softmax(1))).sum(1)
    return -(student_logits.argmax(1) == teacher_logits.argmax(1)).float() * divergence


def adversarial_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The mean of ``adversarial_losses``."""
    return adversarial_losses(student_logits, teacher_logits).mean()


@dataclass
class Inversion:
    """What CMI, Fast and NAYER lower: ``a_bn R_bn + a_oh CE + a_adv L_adv``."""

    batch_norm_weight: float = BATCH_NORM_WEIGHT
    label_weight: float = 1.0
    adversarial_weight: float = 1.0

    def inversion_loss(
        self, logits: Tensor, labels: Tensor, statistics: BatchNormStatistics, seen: Tensor, student: nn.Module | None
    ) -> Tensor:
        """A scalar.

        Args:
            logits: (batch, classes), the teacher's of ``seen``, which it has looked at last.
            labels: (batch,) of the images.
            statistics: of the teacher.
            seen: (batch, channels, height, width), the images' views.
            student: that takes part; None: there is no third term.
        """
        loss = self.batch_norm_weight * statistics.loss() + self.label_weight * F.cross_entropy(logits, labels)
        if student is not None:
            loss = loss + self.adversarial_weight * adversarial_loss(student(seen), logits)
        return loss


def crop_and_flip(images: Tensor) -> Tensor:
    """Each image moved by up to 4 pixels, with black behind it, and mirrored half of the time."""
    count, _, height, width = images.shape
    padded = F.pad(images, (SHIFT,) * 4)
    places = torch.randint(0, 2 * SHIFT + 1, (count, 2)).tolist()
    moved = torch.stack([image[:, top : top + height, left : left + width]
                         for image, (top, left) in zip(padded, places, strict=True)])  # fmt: skip
    mirrored = torch.rand(count, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)


class Generator(nn.Module):
    """Random numbers (batch, num_inputs) to images (batch, channels, side, side) in [0, 1], as in CMI, Fast and NAYER.

    Two doublings of a fourth of the side, 3 x 3 convolutions, batch norm.
    """

    def __init__(self, num_inputs: int, shape: tuple[int, int, int], width: int = 32) -> None:
        super().__init__()
        channels, side = shape[0], shape[1]
        self.first_shape = (2 * width, side // 4, side // 4)
        self.first = nn.Linear(num_inputs, 2 * width * (side // 4) ** 2)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        ).to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z).unflatten(1, self.first_shape)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Best:
    """The batch of the lowest loss among the steps of a round."""

    def __init__(self) -> None:
        self.images, self._loss = torch.zeros(()), float("inf")

    def offer(self, images: Tensor, loss: Tensor) -> None:
        """Keep a copy of these, if they are better."""
        now = float(loss.detach())
        if now < self._loss:
            self.images, self._loss = images.detach().clone(), now
