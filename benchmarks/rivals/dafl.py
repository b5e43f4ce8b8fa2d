"""DAFL: a generator whose images make the teacher sure, spread over the classes, and full of activations.

Chen et al. 2019, "Data-Free Learning of Student Networks". ``L_oh + a L_a + b L_ie``: cross-entropy with
the teacher's own class, minus the mean absolute feature, minus the entropy of the mean prediction. Nothing is kept: the
generator of now is what the student learns from. Settings are the authors': a 0.1, b 20, Adam at 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.pieces import BETAS, Generator
from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation


@dataclass
class Dafl:
    """A generator without labels."""

    num_steps: int = 5  # of the generator in a round
    batch_size: int = 256
    learning_rate: float = 1e-3
    activation_weight: float = 0.1
    balance_weight: float = 20.0
    num_inputs: int = 512
    name: str = "DAFL"
    own_student: OwnStudent | None = field(default_factory=lambda: OwnStudent(1.0, learning_rate=0.1, warm_up=0.0))
    kept_rounds: int | None = 16  # about as many images as others make

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``."""
        generator = Generator(self.num_inputs, problem.shape)
        optimizer = torch.optim.Adam(generator.parameters(), self.learning_rate, betas=BETAS)
        while True:
            for _ in range(self.num_steps):
                images = generator(torch.randn(self.batch_size, self.num_inputs))
                features = problem.teacher.features(images)
                logits = problem.teacher.head(features)
                loss = one_hot_loss(logits) + self.balance_weight * balance_loss(logits)
                loss = loss - self.activation_weight * features.abs().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            yield images.detach(), logits.argmax(1)


def one_hot_loss(logits: Tensor) -> Tensor:
    """Cross-entropy with the class that the teacher itself gives; logits are (batch, classes)."""
    return F.cross_entropy(logits, logits.argmax(1))


def balance_loss(logits: Tensor) -> Tensor:
    """``sum p log p`` of the batch's mean prediction p: minus its entropy, lowest where all classes come equally."""
    mean = logits.softmax(1).mean(0)
    return torch.special.xlogy(mean, mean).sum()
