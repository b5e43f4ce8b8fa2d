"""One measured value with its count and interval, as ``metrics.json`` has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prismkd.data import LabeledImages
from prismkd.metrics import bootstrap_interval

MAX_COUNTED_CLASSES = 2000  # for which it is counted which class is taken for which
BATCH = 128  # images per forward pass; results don't depend on it


class LabeledBatch(NamedTuple):
    """A batch of images to look at.

    Attributes:
        images: (batch, channels, height, width) in [0, 1]; or files, which every network sees in its own geometry.
        labels: (batch,) intended classes.
        teacher_hits: (batch,) 1.0 where the teacher predicts the intended class, where that is known already: it was
            asked when the images were drawn. None: it has to be asked.
    """

    images: Tensor | LabeledImages
    labels: Tensor
    teacher_hits: np.ndarray | None = None


Batches = Iterable[LabeledBatch]


@dataclass(frozen=True)
class Row:
    """One measured value, as it stands in ``metrics.json``.

    Attributes:
        method: that made the student or the images; ``teacher`` and ``real-vs-real`` for the references.
        seed: of the run.
        domain: of the test images, or ``images`` where the method's own images are measured.
        metric: such as top1, ece, precision.
        value: of the metric, a fraction where the metric is one (not a percentage).
        n: images that the value is of.
        ci95: bootstrap interval over these images; None for values that aren't a mean over images.
    """

    method: str
    seed: int
    domain: str
    metric: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, rounded to five digits, which is finer than one in 50,000 test images."""
        interval = None if self.ci95 is None else [round(bound, 5) for bound in self.ci95]
        return {"method": self.method, "seed": self.seed, "domain": self.domain, "metric": self.metric,
                "value": round(self.value, 5), "n": self.n, "ci95": interval}  # fmt: skip


def mean_row(method: str, seed: int, domain: str, metric: str, values: np.ndarray) -> Row:
    """The mean of one value per image (n,), with its interval where there are two images or more."""
    # The bootstrap's seed is fixed, so that a run evaluated twice gives the same file
    interval = bootstrap_interval(values, seed=0) if len(values) > 1 else None
    return Row(method, seed, domain, metric, float(values.mean()), len(values), interval)


def device_of(network: torch.nn.Module) -> torch.device:
    """Where a network's weights are, and its inputs have to be."""
    return next(network.parameters(), torch.empty(0)).device


def no_counts(num_classes: int) -> np.ndarray:
    """Zeros (num_classes, num_classes) to count pairs of classes in; empty where there are too many classes.

    The counts of 10,000 classes would be gigabytes, in memory and in a JSON file.
    """
    num_counted = num_classes if num_classes <= MAX_COUNTED_CLASSES else 0
    return np.zeros((num_counted, num_counted), dtype=int)


def count_pairs(counts: np.ndarray, classes: np.ndarray, taken_for: np.ndarray) -> None:
    """Add one to ``counts`` for every image's pair of classes, both (n,); empty counts stay empty."""
    if counts.size:
        # add.at and not +=, which counts a pair of classes once however often it occurs
        np.add.at(counts, (classes, taken_for), 1)
