"""DeepInversion: pixels that the teacher takes for their class, with the statistics of its batch norms.

Yin et al. 2020, "Dreaming to Distill". ``CE + a_bn R_bn + a_tv TV + a_l2 |x|_2``. Settings are those of the
authors' CIFAR code: Adam at 0.1 in normalized pixels, from unit noise, all images of a batch rolled by up to 1/16 of
the side at every step. For a teacher without batch norm it is what it was before that, DeepDream's prior.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.pieces import BATCH_NORM_WEIGHT, BETAS, BatchNormStatistics, Best
from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation

MEAN, DEVIATION = 0.5, 0.25  # of the pixels in whose units the learning rate is


@dataclass
class DeepInversion:
    """Pixels."""

    num_steps: int = 250  # the authors': 2,000
    batch_size: int = 256
    learning_rate: float = 0.1
    batch_norm_weight: float = BATCH_NORM_WEIGHT
    variation_weight: float = 2.5e-5
    l2_weight: float = 0.0
    name: str = "DeepInversion"
    own_student: OwnStudent | None = None
    kept_rounds: int | None = None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``."""
        jitter = max(1, problem.shape[1] // 16)
        with BatchNormStatistics(problem.teacher) as statistics:
            while True:
                labels = torch.randint(problem.num_classes, (self.batch_size,))
                x = torch.randn(self.batch_size, *problem.shape, requires_grad=True)
                optimizer, best = torch.optim.Adam([x], self.learning_rate, betas=BETAS), Best()
                for _ in range(self.num_steps):
                    across, down = torch.randint(-jitter, jitter + 1, (2,)).tolist()
                    moved = torch.roll(x, (across, down), (2, 3))
                    logits = problem.teacher(MEAN + DEVIATION * moved)
                    loss = F.cross_entropy(logits, labels) + self.batch_norm_weight * statistics.loss()
                    loss = loss + self.variation_weight * total_variation(moved) + self.l2_weight * torch.norm(moved)
                    best.offer(x, loss)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    with torch.no_grad():
                        x.clamp_(-MEAN / DEVIATION, (1 - MEAN) / DEVIATION)
                yield MEAN + DEVIATION * best.images, labels


def total_variation(x: Tensor) -> Tensor:
    """The norms of the differences of neighbors in four directions, added up; x is (batch, channels, height, width)."""
    right, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    one, other = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]
    return torch.norm(right) + torch.norm(down) + torch.norm(one) + torch.norm(other)
