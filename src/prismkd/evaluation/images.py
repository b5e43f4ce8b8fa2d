"""A set of images against held-out real ones, in the features of a judge that never guided it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prismkd.classifiers import Classifier, predict
from prismkd.data import LabelledImages
from prismkd.evaluation.rows import BATCH, Batches, Row, device_of, mean_row
from prismkd.metrics import (
    bootstrap_interval,
    class_averaged,
    correct,
    frechet_distance,
    kernel_distance,
    neighborhoods,
    symmetric,
    vendi_score,
)

VENDI_IMAGES_PER_CLASS = 20  # the Vendi score grows with the count, so every set is cut to the same


class View(NamedTuple):
    """What judge and teacher see in labelled images.

    Attributes:
        features: the judge's (n, width).
        labels: intended classes (n,).
        judge_hits: 1.0 where the judge sees the intended class (n,).
        teacher_hits: 1.0 where the teacher does (n,).
    """

    features: np.ndarray
    labels: np.ndarray
    judge_hits: np.ndarray
    teacher_hits: np.ndarray

    def subset(self, indices: np.ndarray) -> View:
        """Some of the images."""
        return View(*(values[indices] for values in self))


@torch.no_grad()
def view(batches: Batches, teacher: Classifier, judge: Classifier) -> View:
    """Look at images batch by batch."""
    parts = []
    for images, labels in batches:
        features = judge.features(images.to(device_of(judge))).flatten(1).cpu().numpy()
        hits = [correct(predict(network, images.to(device_of(network))).cpu().numpy(), labels.numpy())
                for network in (judge, teacher)]  # fmt: skip
        parts.append((features, labels.numpy(), *hits))
    return View(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def labelled_batches(images: LabelledImages) -> Iterator[tuple[Tensor, Tensor]]:
    """The images with their labels."""
    yield from zip(images.batches(BATCH), images.labels.split(BATCH), strict=True)


def evaluate_images(
    images: Tensor, labels: Tensor, teacher: Classifier, judge: Classifier, real: LabelledImages, k: int,
    method: str, seed: int
) -> list[Row]:  # fmt: skip
    """``compare_images`` of images that are in memory.

    Args:
        images: (n, channels, height, width) in [0, 1], with their intended ``labels`` (n,).
        labels: (n,).
        teacher: the teacher, for its agreement with the intended labels.
        judge: another network that never guided anything; its features are the metric space.
        real: held-out real images.
        k: neighbors.
        method: name in the rows.
        seed: seed in the rows.
    """
    seen = view(zip(images.split(BATCH), labels.split(BATCH), strict=True), teacher, judge)
    return compare_images(seen, view(labelled_batches(real), teacher, judge), k, method, seed)


def compare_images(fake: View, real: View, k: int, method: str, seed: int) -> list[Row]:
    """Images against held-out real ones in the judge's features, and the verdicts of judge and teacher.

    Precision, recall, density, coverage with their symmetric companions and class averages; Frechet and kernel
    distance; Vendi score of the images alone. Intervals are over the samples that a value is the mean of, with the
    neighborhoods held fixed.

    Args:
        fake: the images, (n, ...).
        real: held-out real images.
        k: neighbors.
        method: name in the rows.
        seed: seed in the rows.

    Raises:
        UserError: k or fewer images in a set.
    """
    count = len(fake.labels)

    def row(metric: str, value: float, n: int = count, interval: tuple[float, float] | None = None) -> Row:
        return Row(method, seed, "images", metric, value, n, interval)

    found = neighborhoods(real.features, fake.features, k)
    rows = [row(name, float(values.mean()), interval=bootstrap_interval(values, seed=0))
            for name, values in found._asdict().items() if name != "complement_precision"]  # fmt: skip
    rows += [row(name, value) for name, value in symmetric(found)._asdict().items()]
    averaged = class_averaged(real.features, real.labels, fake.features, fake.labels, k)
    if averaged:
        rows += [row(f"class_{name}", value, averaged[1]) for name, value in averaged[0]._asdict().items()]
    rows += [row("fd", frechet_distance(real.features, fake.features)),
             row("kid", kernel_distance(real.features, fake.features))]  # fmt: skip
    classes = [own for label in np.unique(fake.labels)
               if len(own := fake.features[fake.labels == label]) >= VENDI_IMAGES_PER_CLASS]  # fmt: skip
    if classes:
        scores = [vendi_score(own[:VENDI_IMAGES_PER_CLASS]) for own in classes]
        rows.append(row("vendi", float(np.mean(scores)), VENDI_IMAGES_PER_CLASS * len(classes)))
    return [*rows, mean_row(method, seed, "images", "judge_top1", fake.judge_hits),
            mean_row(method, seed, "images", "teacher_agreement", fake.teacher_hits)]  # fmt: skip


def halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves with every class's images dealt out in turn."""
    order = np.argsort(labels, kind="stable")
    return np.sort(order[0::2]), np.sort(order[1::2])
