"""What a rival gets, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from prismkd.classifiers import Classifier


@dataclass(frozen=True)
class Problem:
    """A teacher without its data.

    Attributes:
        teacher: on ``device``; images in [0, 1] to logits, frozen.
        class_names: in the order of the labels.
        shape: (channels, height, width) of an image.
        new_student: an untrained student from a seed: images in [0, 1] to logits.
        text_features: (n, width) of n texts; None, or giving None, where there is no text encoder.
    """

    teacher: Classifier
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    new_student: Callable[[int], nn.Module]
    text_features: Callable[[list[str]], Tensor | None] | None = None

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.class_names)


@dataclass(frozen=True)
class OwnStudent:
    """How a rival trains the student that takes part in it: SGD with momentum 0.9 on the teacher's soft labels.

    Attributes:
        temperature: of teacher and student.
        learning_rate: which falls as a cosine over the budget.
        batch_size: images of a step.
        warm_up: share of the budget before which it isn't trained, and takes no part.
        weight_decay: L2.
    """

    temperature: float = 20.0
    learning_rate: float = 0.2
    batch_size: int = 256
    warm_up: float = 0.09
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class Situation:
    """What a rival may know at a round.

    Attributes:
        student: its own, as far as it is trained; None before the warm-up ends.
        spent: share of the budget, from 0 to 1.
    """

    student: nn.Module | None
    spent: float


Batch = tuple[Tensor, Tensor]  # images (n, channels, height, width) in [0, 1], and their intended labels (n,)


class Rival(Protocol):
    """An earlier method; ``rounds`` goes on for as long as it is asked.

    Attributes:
        name: in results.
        own_student: how it trains a student of its own between rounds; None: it needs none.
        kept_rounds: how many of the last rounds' images are kept; None: all.
    """

    name: str
    own_student: OwnStudent | None
    kept_rounds: int | None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """Batches without an end, one a round.

        Args:
            problem: the teacher and what is known of its classes.
            situation: of now.
        """
        ...
