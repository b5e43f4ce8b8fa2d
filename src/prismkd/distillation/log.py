"""What a training says of itself: its log, and warnings about what went wrong without stopping it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.distillation.training_set import TrainingSet, look_size, to_float

MIN_STEPS = 40  # below, a quarter's mean is noise
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
    """

    rows: list[dict[str, float]]
    quarters: tuple[float, ...]
    vanished: tuple[int, ...]

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
                f"{len(names)} vanished classes: the student never predicts {shown} on its own training images, where "
                "they are drawn; look at their images, or train longer"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"log": self.rows, "quarters": [round(value, 5) for value in self.quarters]}


@torch.no_grad()
def vanished_classes(
    student: nn.Module,
    data: TrainingSet,
    device: torch.device,
    look: Callable[[Tensor], Tensor] = lambda images: images,
) -> tuple[int, ...]:
    """Labels among up to 10,000 evenly spread images that the student never predicts on any of these.

    ``look`` makes of images in [0, 1] what the student sees.
    """
    if data.labels is None:
        return ()
    count = min(len(data), MAX_LOOKED_AT)
    # Evenly spread and not the first ones: images of a class may lie together.
    indices = torch.arange(count) * len(data) // count
    looks = indices.split(look_size(data, LOOK_SIZE))
    found = [predicted(student, look(to_float(images.to(device)))) for images in data.batches(looks)]
    missing = set(data.labels[indices].tolist()) - set(torch.cat(found).tolist())
    return tuple(sorted(missing))


def predicted(student: nn.Module, images: Tensor) -> Tensor:
    """The student's classes (batch,)."""
    return student(images).argmax(1).cpu()


def quarter_means(sums: Tensor, num_steps: int) -> tuple[float, ...]:
    """Means of the sums over each quarter; empty where there are too few steps to say something."""
    if num_steps < MIN_STEPS:
        return ()
    ends = [-(-quarter * num_steps // 4) for quarter in range(5)]  # rounded up: where 4 * step // num_steps changes
    counts = [stop - start for start, stop in itertools.pairwise(ends)]
    return tuple(total / count for total, count in zip(sums.tolist(), counts, strict=True))
