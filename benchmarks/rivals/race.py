"""A rival with a budget: rounds of images, its own student between them, until the seconds are spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rivals.pieces import crop_and_flip
from benchmarks.rivals.problem import OwnStudent, Problem, Rival, Situation
from prismkd.config.seeds import derive
from prismkd.distillation import to_bytes
from prismkd.distillation.training_set import to_float

MOMENTUM = 0.9


@dataclass(frozen=True)
class Outcome:
    """What a rival has made of its budget.

    Attributes:
        images: (n, channels, height, width) uint8, of all rounds.
        labels: (n,) that they were made for.
        student: its own; None where it has none.
        num_rounds: that it took.
        teacher_passes: images that the teacher has looked at.
        seconds: of this process's CPU.
    """

    images: Tensor
    labels: Tensor
    student: nn.Module | None
    num_rounds: int
    teacher_passes: int
    seconds: float


def race(rival: Rival, problem: Problem, seconds: float, seed: int) -> Outcome:
    """Let a rival work for ``seconds`` of this process's CPU; at least one round.

    Where it has a student of its own, each round is followed by a training of as long as the round took: the authors'
    have tens to hundreds of steps on all images so far after each, which small budgets would not allow one of.
    """
    with torch.random.fork_rng([]), _counting_passes(problem) as passes:
        torch.manual_seed(derive(seed, rival.name))
        clock = Clock(seconds)
        own = _Own(rival.own_student, problem, seed, clock) if rival.own_student else None
        images, labels = list[Tensor](), list[Tensor]()

        def situation() -> Situation:
            return Situation(own.takes_part if own else None, clock.share)

        begun, num_rounds = clock.spent, 0
        for batch, targets in rival.rounds(problem, situation):
            images, labels = [*images, to_bytes(batch.detach())], [*labels, targets]
            if rival.kept_rounds:
                images, labels = images[-rival.kept_rounds :], labels[-rival.kept_rounds :]
            num_rounds += 1
            if own and clock.share >= own.config.warm_up:
                own.train(torch.cat(images), clock.spent - begun)
            begun = clock.spent
            if clock.share >= 1:
                break
        student = own.network.eval() if own else None
        return Outcome(torch.cat(images), torch.cat(labels), student, num_rounds, passes(), clock.spent)


class Clock:
    """Seconds of this process's CPU."""

    def __init__(self, budget: float) -> None:
        self.budget, self._start = budget, time.process_time()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.process_time() - self._start

    @property
    def share(self) -> float:
        """Of the budget."""
        return min(1.0, self.spent / self.budget)


class _Own:
    """The student that takes part in a rival."""

    def __init__(self, config: OwnStudent, problem: Problem, seed: int, clock: Clock) -> None:
        self.config, self.problem, self.clock, self.is_trained = config, problem, clock, False
        self.network = problem.new_student(seed)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), config.learning_rate, momentum=MOMENTUM, weight_decay=config.weight_decay
        )

    @property
    def takes_part(self) -> nn.Module | None:
        """The network, once it has learned anything."""
        return self.network.eval() if self.is_trained else None

    def train(self, images: Tensor, seconds: float) -> None:
        """On these images (n, channels, height, width), uint8, for so long."""
        self.network.train()
        end, temperature = self.clock.spent + seconds, self.config.temperature
        while self.clock.spent < end:
            seen = crop_and_flip(to_float(images[torch.randint(len(images), (self.config.batch_size,))]))
            with torch.no_grad():
                taught = self.problem.teacher(seen)
            loss = soft_loss(self.network(seen), taught, temperature)
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.clock.share))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.is_trained = True


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || student)`` of the softened logits (batch, classes), the mean of the batch (Hinton 2015)."""
    student, teacher = (logits / temperature for logits in (student_logits, teacher_logits))
    return temperature**2 * F.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean"
    )


@contextmanager
def _counting_passes(problem: Problem) -> Iterator[Callable[[], int]]:
    """While active, counts the images that the teacher looks at; the value is a function that says how many."""
    count = 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count
        count += len(inputs[0])

    handle = problem.teacher.network.register_forward_pre_hook(look)
    try:
        yield lambda: count
    finally:
        handle.remove()
