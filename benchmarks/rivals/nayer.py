"""NAYER: the text of class names through a noisy layer that is drawn anew for every batch, in a generator.

Tran et al. 2024, "NAYER: Noisy Layer Data Generation for Efficient and Effective Data-free Knowledge Distillation". The
generator's input is the text feature of the class's name, normalized over the batch, through a linear layer with
weights from N(0, 1); one such layer serves as many images as there are classes. It and the generator take 40 steps
down ``a_bn R_bn + a_oh CE + a_adv L_adv``; the generator itself is begun anew every ten rounds. Settings are the
authors' for CIFAR-100. The text encoder is the problem's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.rivals.pieces import BETAS, BatchNormStatistics, Best, Generator, Inversion, crop_and_flip
from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation
from prismkd.errors import UserError

NOISY_WIDTH = 256


@dataclass
class Nayer(Inversion):
    """A noisy layer per batch."""

    num_steps: int = 40
    batch_size: int = 400
    learning_rate: float = 4e-3
    label_weight: float = 0.5
    adversarial_weight: float = 1.33
    lifetime: int = 10  # rounds of a generator
    name: str = "NAYER"
    own_student: OwnStudent | None = field(default_factory=lambda: OwnStudent(batch_size=512, warm_up=1 / 16))
    kept_rounds: int | None = None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``. Raises UserError without a text encoder."""
        texts = problem.text_features(list(problem.class_names)) if problem.text_features else None
        if texts is None:
            raise UserError("expected a text encoder for NAYER, got none; give the problem text_features")
        generator, age = NoisyGenerator(texts, problem.shape, self.batch_size), 0
        with BatchNormStatistics(problem.teacher) as statistics:
            while True:
                if age == self.lifetime:
                    generator, age = NoisyGenerator(texts, problem.shape, self.batch_size), 0
                generator.draw_noisy_layers()
                labels, best, student = all_classes(problem.num_classes, self.batch_size), Best(), situation().student
                optimizer = torch.optim.Adam(generator.parameters(), self.learning_rate, betas=BETAS)
                for _ in range(self.num_steps):
                    images = generator(labels)
                    seen = crop_and_flip(images)
                    logits = problem.teacher(seen)
                    loss = self.inversion_loss(logits, labels, statistics, seen, student)
                    best.offer(images, loss)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                age += 1
                yield best.images, labels


class NoisyGenerator(nn.Module):
    """Labels (batch,) to images, through noisy layers that ``draw_noisy_layers`` begins anew.

    Args:
        texts: (classes, width), features of the class names.
        shape: of an image.
        batch_size: labels of a call, of which each noisy layer takes as many as there are classes.
    """

    def __init__(self, texts: Tensor, shape: tuple[int, int, int], batch_size: int) -> None:
        super().__init__()
        self.texts = texts
        self.norm = nn.BatchNorm1d(texts.shape[1])
        layers = math.ceil(batch_size / len(texts))
        self.noisy = nn.ModuleList(nn.Linear(texts.shape[1], NOISY_WIDTH) for _ in range(layers))
        self.generator = Generator(NOISY_WIDTH, shape)

    def draw_noisy_layers(self) -> None:
        """Weights from N(0, 1), no bias."""
        for parameter_name, parameter in self.noisy.named_parameters():
            nn.init.zeros_(parameter) if parameter_name.endswith("bias") else nn.init.normal_(parameter)

    def forward(self, labels: Tensor) -> Tensor:
        features = self.norm(self.texts[labels]).split(len(self.texts))
        return self.generator(torch.cat([layer(part) for layer, part in zip(self.noisy, features, strict=True)]))


def all_classes(num_classes: int, count: int) -> Tensor:
    """All classes one after the other, as often as they fit into ``count`` labels, and random ones for the rest."""
    return torch.cat([torch.arange(num_classes).repeat(count // num_classes),
                      torch.randint(num_classes, (count % num_classes,))])  # fmt: skip
