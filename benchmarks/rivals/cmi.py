"""CMI, contrastive model inversion: a generator begun anew for every batch, whose images are to differ from all before.

Fang et al. 2021, "Contrastive Model Inversion for Data-Free Knowledge Distillation". ``a_bn R_bn + a_oh CE + a_adv
L_adv + a_cr L_cr``. For the contrast, each image has a local view (a crop) and a global one; their
features, the means of the inputs of all batch norms, pass a small head, and an image's two views are to be nearer to
each other than to those of other images, of the batch and of a memory. Settings are the authors' for CIFAR-10. A
teacher without batch norm gives its penultimate features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rivals.pieces import BETAS, BatchNormStatistics, Best, Generator, Inversion, crop_and_flip
from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation

HEAD_WIDTH = 256
SMALLEST_CROP = 0.5  # of the side: a fourth of the area


@dataclass
class Cmi(Inversion):
    """A generator per batch, with a memory."""

    num_steps: int = 200
    batch_size: int = 256
    learning_rate: float = 1e-3
    adversarial_weight: float = 0.5
    contrast_weight: float = 0.8
    contrast_temperature: float = 0.1
    num_negatives: int = 4096
    num_inputs: int = 256
    name: str = "CMI"
    own_student: OwnStudent | None = field(
        default_factory=lambda: OwnStudent(learning_rate=0.1, batch_size=128, warm_up=0.0)
    )
    kept_rounds: int | None = None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``."""
        with BatchNormStatistics(problem.teacher) as statistics:
            width = self._features(problem, statistics, torch.rand(1, *problem.shape)).shape[1]
            head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, HEAD_WIDTH))
            of_head = torch.optim.Adam(head.parameters(), self.learning_rate)
            memory = torch.zeros(0, 2, width)
            while True:
                labels = torch.randint(problem.num_classes, (self.batch_size,)).sort().values
                z = torch.randn(self.batch_size, self.num_inputs, requires_grad=True)
                generator, best, kept = Generator(self.num_inputs, problem.shape), Best(), Best()
                optimizer = torch.optim.Adam([*generator.parameters(), z], self.learning_rate, betas=BETAS)
                student = situation().student
                for _ in range(self.num_steps):
                    images = generator(z)
                    seen = crop_and_flip(images)
                    logits = problem.teacher(seen)
                    loss = self.inversion_loss(logits, labels, statistics, seen, student)
                    whole = self._last_features(problem, statistics, seen)
                    part = self._features(problem, statistics, resized_crop(images))
                    chosen = memory[torch.randperm(len(memory))[: self.num_negatives]]
                    loss = loss + self.contrast_weight * self._contrast(head, part, whole, chosen)
                    best.offer(images, loss)
                    kept.offer(torch.stack([part, whole], dim=1), loss)
                    optimizer.zero_grad()
                    of_head.zero_grad()
                    loss.backward()
                    optimizer.step()
                    of_head.step()
                memory = torch.cat([memory, kept.images])
                yield best.images, labels

    def _contrast(self, head: nn.Module, part: Tensor, whole: Tensor, memory: Tensor) -> Tensor:
        """L_cr; that of the batch and that of the memory count alike, as there are many more of the memory."""
        count = len(part)
        parts = F.normalize(head(torch.cat([part, memory[:, 0]])), dim=1)
        wholes = F.normalize(head(torch.cat([whole, memory[:, 1]])), dim=1)
        losses = contrast_losses(parts, wholes.detach(), self.contrast_temperature)
        return losses[:count].mean() + (losses[count:].mean() if len(memory) else 0.0)

    def _features(self, problem: Problem, statistics: BatchNormStatistics, images: Tensor) -> Tensor:
        problem.teacher(images)
        return self._last_features(problem, statistics, images)

    def _last_features(self, problem: Problem, statistics: BatchNormStatistics, images: Tensor) -> Tensor:
        """Of the images that the teacher has seen last."""
        if not statistics.layers:
            return problem.teacher.features(images)
        return torch.cat(statistics.instance_means, dim=1)


def contrast_losses(parts: Tensor, wholes: Tensor, temperature: float) -> Tensor:
    """``-log softmax`` (n,) of each part's similarity to its own whole among all wholes; both are (n, width), unit."""
    return F.cross_entropy(parts @ wholes.T / temperature, torch.arange(len(parts)), reduction="none")


def resized_crop(images: Tensor) -> Tensor:
    """A random square of each image, of a fourth of its area or more, enlarged to the image; half of them mirrored."""
    count = len(images)
    scale = SMALLEST_CROP + (1 - SMALLEST_CROP) * torch.rand(count)
    center = (1 - scale)[:, None] * (2 * torch.rand(count, 2) - 1)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    rows = (torch.stack([scale * mirror, zero, center[:, 0]], 1), torch.stack([zero, scale, center[:, 1]], 1))
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
