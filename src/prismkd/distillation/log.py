"""What a training says of itself: its log, and warnings about what went wrong without stopping it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.classifiers import predict
from prismkd.distillation.training_set import TrainingSet, look_size, to_float

MIN_STEPS = 40  # below, a quarter's mean is noise
NUM_PARTS = 40  # of the steps, whose mean losses are the training's curve; a multiple of 4, for the quarters
MIN_FALL = 0.02  # of the mean loss, from the first quarter of the steps to the second
MAX_LOOKED_AT, LOOK_SIZE = 10_000, 512
NUM_SHOWN = 5


@dataclass(frozen=True)
class TrainingLog:
    """The record of a training.

    Attributes:
        rows: step, loss and learning rate at every checkpoint.
        quarters: the mean loss over each quarter of the steps.
        vanished: classes that the student never predicts on its own training images, although they are drawn.
        curve: the mean loss over each of 40 equal parts of the steps; of each step, where there are fewer.
        train_top1: share of its own training images whose label the student predicts; None where they have no labels.
        train_agreement: share of them on which student and teacher predict the same class; None without a teacher.
    """

    rows: list[dict[str, float]]
    quarters: tuple[float, ...]
    vanished: tuple[int, ...]
    curve: tuple[float, ...] = ()
    train_top1: float | None = None
    train_agreement: float | None = None

    @property
    def plateaued(self) -> bool:
        """Whether the mean loss fell by less than 2 % from the first quarter of the steps to the second.

        While the learning rate is high a student that learns goes on falling; one that doesn't has stopped early.
        """
        return len(self.quarters) == 4 and not self.quarters[1] < (1 - MIN_FALL) * self.quarters[0]

    def warnings(self, class_names: Sequence[str] = ()) -> list[str]:
        """What a user should look into; classes by name where ``class_names`` has one."""
        found = []
        if self.plateaued:
            first, second = self.quarters[:2]
            found.append(
                f"early plateau: the mean loss went from {first:.4g} in the first quarter of the steps to {second:.4g} "
                "in the second; try another distillation.learning_rate or architecture"
            )
        if self.vanished:
            names = [class_names[label] if label < len(class_names) else str(label) for label in self.vanished]
            shown = ", ".join(names[:NUM_SHOWN]) + (", ..." if len(names) > NUM_SHOWN else "")
            found.append(
                f"vanished classes: the student never predicts {len(names)} of the classes of its own training images "
                f"({shown}); look at their images, or train longer"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "log": self.rows,
            "quarters": [round(value, 5) for value in self.quarters],
            "curve": [round(value, 5) for value in self.curve],
            "train_top1": self.train_top1,
            "train_agreement": self.train_agreement,
        }


@dataclass(frozen=True)
class LookBack:
    """A trained student on its own training images; as in ``TrainingLog``."""

    vanished: tuple[int, ...]
    train_top1: float | None
    train_agreement: float | None


@torch.no_grad()
def look_back(
    student: nn.Module, data: TrainingSet, device: torch.device,
    teacher: Callable[[Tensor, Tensor], Tensor] | None = None,
    look: Callable[[Tensor], Tensor] = lambda images: images,
) -> LookBack:  # fmt: skip
    """The student on up to 10,000 evenly spread ones of its training images, without augmentation.

    Args:
        student: trained.
        data: what it learned from.
        device: where it is.
        teacher: indices (batch,) of images and these images (batch, channels, height, width) in [0, 1] to its logits.
        look: makes of images in [0, 1] what student and teacher see.
    """
    count = min(len(data), MAX_LOOKED_AT)
    # Evenly spread and not the first ones: images of a class may lie together.
    indices = torch.arange(count) * len(data) // count
    labels = None if data.labels is None else data.labels[indices]
    answers, agreements = list[Tensor](), list[Tensor]()
    looks = indices.split(look_size(data, LOOK_SIZE))
    for places, images in zip(looks, data.batches(looks), strict=True):
        looked_at = look(to_float(images.to(device)))
        answers.append(predicted(student, looked_at))
        if teacher is not None:
            agreements.append(teacher(places, looked_at).argmax(1).cpu() == answers[-1])
    classes = torch.cat(answers)
    return LookBack(
        () if labels is None else tuple(sorted(set(labels.tolist()) - set(classes.tolist()))),
        None if labels is None else _share(classes == labels),
        _share(torch.cat(agreements)) if agreements else None,
    )


def _share(hits: Tensor) -> float:
    return round(hits.float().mean().item(), 5)


def predicted(student: nn.Module, images: Tensor) -> Tensor:
    """The student's classes (batch,)."""
    return predict(student, images).argmax(1).cpu()


def part_of(step: int, num_steps: int) -> int:
    """The part, from 0 to 39, of the training that a step belongs to."""
    return NUM_PARTS * step // num_steps


def curve_of(sums: Tensor, num_steps: int) -> tuple[float, ...]:
    """Mean losses of the parts that have a step, from the loss summed over each of the 40 parts."""
    counts = _part_counts(num_steps)
    return tuple(total / count for total, count in zip(sums.tolist(), counts, strict=True) if count)


def quarter_means(sums: Tensor, num_steps: int) -> tuple[float, ...]:
    """Mean losses over each quarter; empty where there are too few steps to say something."""
    if num_steps < MIN_STEPS:
        return ()
    # A quarter is ten parts exactly: floor(4 s / n) = floor(floor(40 s / n) / 10)
    totals = sums.double().reshape(4, -1).sum(1).tolist()
    counts = torch.tensor(_part_counts(num_steps)).reshape(4, -1).sum(1).tolist()
    return tuple(total / count for total, count in zip(totals, counts, strict=True))


def _part_counts(num_steps: int) -> list[int]:
    """Steps in each part."""
    ends = [-(-part * num_steps // NUM_PARTS) for part in range(NUM_PARTS + 1)]  # rounded up: where ``part_of`` changes
    return [stop - start for start, stop in itertools.pairwise(ends)]
