"""A set of images against held-out real ones, in the features of a judge that never guided it.

The judge is another network than the teacher. In the guiding teacher's own features guided images look good by
construction, whatever they show.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prismkd.classifiers import Classifier, features_of, predict
from prismkd.data import LabeledImages
from prismkd.evaluation.reading import is_cropped, read_for
from prismkd.evaluation.rows import BATCH, Batches, LabeledBatch, Row, device_of, mean_row
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

# The Vendi score grows with the number of images, so every class is cut to the same number; those with fewer images are
# left out.
VENDI_IMAGES_PER_CLASS = 20


class JudgedImages(NamedTuple):
    """What judge and teacher say of labeled images, which need not be kept.

    Attributes:
        features: the judge's (n, width).
        labels: intended classes (n,).
        judge_hits: (n,), 1.0 where the judge predicts the intended class, else 0.0; None where it has other classes.
        teacher_hits: (n,), the same of the teacher.
    """

    features: np.ndarray
    labels: np.ndarray
    judge_hits: np.ndarray | None
    teacher_hits: np.ndarray

    def subset(self, indices: np.ndarray) -> JudgedImages:
        """The images at ``indices``, in their order."""
        judge_hits = None if self.judge_hits is None else self.judge_hits[indices]
        return JudgedImages(self.features[indices], self.labels[indices], judge_hits, self.teacher_hits[indices])


@torch.no_grad()
def judge_images(batches: Batches, teacher: Classifier, judge: Classifier) -> JudgedImages:
    """Let judge and teacher look at images, one batch in memory at a time.

    Args:
        batches: images in [0, 1] with their intended labels. Files are read in the geometry of each network; images in
            memory pass its ``preprocess``, which resizes as Pillow does.
        teacher: the teacher, on any device.
        judge: another network, on any device. With as many outputs as the teacher it is taken for a classifier of the
            same classes; else its features alone count.
    """
    parts, judge_hits = [], []
    for images, labels, teacher_hits in batches:
        seen = _seen_by(judge, images)
        features = torch.cat([features_of(judge, view.images, cropped=view.cropped) for view in seen])
        if teacher_hits is None:
            teacher_hits = _hits(teacher, _seen_by(teacher, images), labels)
        parts.append((features.cpu().numpy(), labels.numpy(), teacher_hits))
        if judge.num_classes == teacher.num_classes:
            judge_hits.append(_hits(judge, seen, labels))
    features_of_all, intended, hits = (np.concatenate(part) for part in zip(*parts, strict=True))
    return JudgedImages(features_of_all, intended, np.concatenate(judge_hits) if judge_hits else None, hits)


class _View(NamedTuple):
    """Images (batch, channels, height, width) on a network's device, and whether they are resized and cut already."""

    images: Tensor
    cropped: bool


def _seen_by(network: Classifier, images: Tensor | LabeledImages) -> list[_View]:
    """The images as a network is to see them; several views only where its geometry leaves several sizes."""
    if isinstance(images, Tensor):
        return [_View(images.to(device_of(network)), cropped=False)]
    files = read_for(network, images)
    return [_View(part.to(device_of(network)), is_cropped(network, files)) for part in files.batches(BATCH)]


def _hits(network: Classifier, seen: list[_View], labels: Tensor) -> np.ndarray:
    """(batch,), 1.0 where the network predicts the intended class."""
    logits = torch.cat([predict(network, view.images, cropped=view.cropped) for view in seen])
    return correct(logits.cpu().numpy(), labels.numpy())


def labeled_batches(images: LabeledImages) -> Iterator[LabeledBatch]:
    """The images with their labels, which are decoded when a network looks at them."""
    for places in torch.arange(len(images)).split(BATCH):
        part = images.subset(places.numpy())
        yield LabeledBatch(part, part.labels)


def evaluate_images(
    images: Tensor, labels: Tensor, teacher: Classifier, judge: Classifier, real: LabeledImages, k: int,
    method: str, seed: int
) -> list[Row]:  # fmt: skip
    """``compare_images`` of images that are in memory.

    Args:
        images: (n, channels, height, width) in [0, 1].
        labels: their intended classes (n,).
        teacher: the teacher, for its agreement with the intended labels.
        judge: another network that never guided anything; its features are the metric space.
        real: held-out real images.
        k: neighbors, as in ``metrics.prdc``.
        method: name in the rows.
        seed: seed in the rows.

    Raises:
        UserError: k or fewer images in a set.
    """
    batches = starmap(LabeledBatch, zip(images.split(BATCH), labels.split(BATCH), strict=True))
    fake_judged = judge_images(batches, teacher, judge)
    return compare_images(fake_judged, judge_images(labeled_batches(real), teacher, judge), k, method, seed)


def compare_images(fake: JudgedImages, real: JudgedImages, k: int, method: str, seed: int) -> list[Row]:
    """Images against held-out real ones in the judge's features, and the verdicts of judge and teacher.

    The rows are precision, recall, density and coverage with their symmetric companions and class averages; Frechet and
    kernel distance; and those of ``describe_images``.
    Intervals are over the samples that a value is the mean of, with the neighborhoods held fixed.

    Args:
        fake: the images.
        real: held-out real images.
        k: neighbors, as in ``metrics.prdc``.
        method: name in the rows.
        seed: seed in the rows.

    Raises:
        UserError: k or fewer images in a set.
    """
    count = len(fake.labels)

    def row(metric: str, value: float, n: int = count, interval: tuple[float, float] | None = None) -> Row:
        return Row(method, seed, "images", metric, value, n, interval)

    # One pass over the distances serves all six; complement precision is only a step towards the symmetric one
    per_sample = neighborhoods(real.features, fake.features, k)
    rows = [row(name, float(values.mean()), interval=bootstrap_interval(values, seed=0))
            for name, values in per_sample._asdict().items() if name != "complement_precision"]  # fmt: skip
    rows += [row(name, value) for name, value in symmetric(per_sample)._asdict().items()]
    # Pooled values hide a class that lost its modes, since its fakes can lie among another class's reals
    averaged = class_averaged(real.features, real.labels, fake.features, fake.labels, k)
    if averaged:
        rows += [row(f"class_{name}", value, averaged[1]) for name, value in averaged[0]._asdict().items()]
    rows += [row("fd", frechet_distance(real.features, fake.features)),
             row("kid", kernel_distance(real.features, fake.features))]  # fmt: skip
    return [*rows, *describe_images(fake, method, seed)]


def describe_images(fake: JudgedImages, method: str, seed: int) -> list[Row]:
    """What can be said of images without real ones: the Vendi score, and top-1 of judge and teacher.

    Args:
        fake: the images.
        method: name in the rows.
        seed: seed in the rows.
    """
    rows = list[Row]()
    # Diversity within each class: of all images together the score would mostly count the classes
    by_class = [features for label in np.unique(fake.labels)
                if len(features := fake.features[fake.labels == label]) >= VENDI_IMAGES_PER_CLASS]  # fmt: skip
    if by_class:
        scores = [vendi_score(features[:VENDI_IMAGES_PER_CLASS]) for features in by_class]
        count = VENDI_IMAGES_PER_CLASS * len(by_class)
        rows.append(Row(method, seed, "images", "vendi", float(np.mean(scores)), count))
    if fake.judge_hits is not None:
        rows.append(mean_row(method, seed, "images", "judge_top1", fake.judge_hits))
    return [*rows, mean_row(method, seed, "images", "teacher_agreement", fake.teacher_hits)]


def split_halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves of a set with labels (n,), ascending, with each class divided evenly between them."""
    # In the order of the labels every second image goes to the other half, so classes differ by one image at most
    order = np.argsort(labels, kind="stable")
    return np.sort(order[0::2]), np.sort(order[1::2])
