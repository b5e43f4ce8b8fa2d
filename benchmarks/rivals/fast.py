"""Fast: a generator from which a few steps lead to any batch, learned over all batches (Fast-Datafree).

Fang et al. 2022, "Up to 100x Faster Data-Free Knowledge Distillation". Each batch starts at the generator of all and
takes ``num_steps`` steps down ``a_bn R_bn + a_oh CE + a_adv L_adv``, in weights and random inputs; the
generator of all follows the gradients on the way, first-order MAML. The batch-norm statistics have a momentum.
Settings are the authors' for CIFAR with 10 steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from benchmarks.rivals.pieces import BETAS, BatchNormStatistics, Best, Generator, Inversion, crop_and_flip
from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation


@dataclass
class Fast(Inversion):
    """A common start for all batches."""

    num_steps: int = 10
    batch_size: int = 256
    learning_rate: float = 2e-3
    inputs_learning_rate: float = 0.01
    label_weight: float = 0.4
    adversarial_weight: float = 1.1
    momentum: float = 0.9
    num_inputs: int = 256
    name: str = "Fast"
    own_student: OwnStudent | None = field(default_factory=OwnStudent)
    kept_rounds: int | None = None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``."""
        common = Generator(self.num_inputs, problem.shape)
        of_common = torch.optim.Adam(common.parameters(), self.learning_rate * self.num_steps, betas=BETAS)
        with BatchNormStatistics(problem.teacher, self.momentum) as statistics:
            while True:
                labels = torch.randint(problem.num_classes, (self.batch_size,))
                z = torch.randn(self.batch_size, self.num_inputs, requires_grad=True)
                generator, best, student = copy.deepcopy(common), Best(), situation().student
                inputs = {"params": [z], "lr": self.inputs_learning_rate}
                weights = {"params": list(generator.parameters()), "lr": self.learning_rate}
                optimizer = torch.optim.Adam([weights, inputs], betas=BETAS)
                of_common.zero_grad()
                for _ in range(self.num_steps):
                    images = generator(z)
                    seen = crop_and_flip(images)
                    logits = problem.teacher(seen)
                    loss = self.inversion_loss(logits, labels, statistics, seen, student)
                    best.offer(images, loss)
                    optimizer.zero_grad()
                    loss.backward()
                    add_gradients(common, generator)
                    optimizer.step()
                of_common.step()
                statistics.remember()
                yield best.images, labels


def add_gradients(common: torch.nn.Module, generator: torch.nn.Module) -> None:
    """First-order MAML: the common weights get the sum of the gradients of all steps that were taken from them."""
    for target, source in zip(common.parameters(), generator.parameters(), strict=True):
        assert source.grad is not None
        target.grad = source.grad.clone() if target.grad is None else target.grad + source.grad
