"""Student + data to metrics, and the image set itself against real references in features that never guided it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prismkd.data import LabelledImages
from prismkd.metrics import (
    bootstrap_interval,
    class_averaged,
    correct,
    correct_in_top,
    expected_calibration_error,
    frechet_distance,
    kernel_distance,
    neighborhoods,
    per_class,
    symmetric,
    vanished,
    vendi_score,
)
from prismkd.students import predict
from prismkd.teachers import Classifier

VENDI_IMAGES_PER_CLASS = 20  # the Vendi score grows with the count, so every set is cut to the same
TOP = 5  # top-5, where there are more classes than that
BATCH = 128

Batches = Iterable[tuple[Tensor, Tensor]]  # images (batch, channels, height, width) in [0, 1] and labels (batch,)


@dataclass(frozen=True)
class Row:
    """One measured value, as it stands in ``metrics.json``."""

    method: str
    seed: int
    domain: str
    metric: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        interval = None if self.ci95 is None else [round(bound, 5) for bound in self.ci95]
        return {"method": self.method, "seed": self.seed, "domain": self.domain, "metric": self.metric,
                "value": round(self.value, 5), "n": self.n, "ci95": interval}  # fmt: skip


# --- students ----------------------------------------------------------------------------------------------------


class StudentEvaluation(NamedTuple):
    """What a student does on the test images.

    Attributes:
        rows: of ``metrics.json``.
        confusion: counts [true class][predicted class] on ``id``.
        confusion_teacher: counts [the teacher's class][the student's class] on ``id``.
        domains: of each domain, ``details`` of its images.
    """

    rows: list[Row]
    confusion: list[list[int]]
    confusion_teacher: list[list[int]]
    domains: dict[str, dict[str, Any]]


def evaluate_student(
    student: torch.nn.Module,
    teacher: Classifier,
    test: LabelledImages,
    method: str,
    seed: int,
    teacher_logits: np.ndarray | None = None,
    restrict_below: float = 0.0,
) -> StudentEvaluation:
    """Accuracy, agreement with the teacher, calibration error and lost classes per domain.

    A domain with few of the classes, as ImageNet-R and -A, is judged among those that it has: the logits of the others
    are left out (the protocol of Hendrycks et al. 2021), and the row ``present_classes`` says how many remain.

    Args:
        student: from images to logits.
        teacher: as the student.
        test: labelled images of any number.
        method: name in the rows.
        seed: seed in the rows.
        teacher_logits: the teacher's (n, num_classes) where they are known.
        restrict_below: share of the classes, in [0, 1]; domains with a smaller one are judged among their own.
    """
    logits = logits_of(student, test)
    teacher_logits = logits_of(teacher, test) if teacher_logits is None else teacher_logits
    labels, rows, domains = test.labels.numpy(), list[Row](), dict[str, dict[str, Any]]()
    confusion, confusion_teacher = np.zeros((2, logits.shape[1], logits.shape[1]), dtype=int)
    for domain in domain_order(test.domains):
        mask = test.domains == domain
        found = _Domain.of(logits[mask], teacher_logits[mask], labels[mask], restrict_below)
        rows += found.rows(method, seed, domain)
        domains[domain] = found.details()
        if domain == "id":
            said, taught = (found.judged[own.argmax(1)] for own in (found.logits, found.teacher_logits))
            np.add.at(confusion, (labels[mask], said), 1)
            np.add.at(confusion_teacher, (taught, said), 1)
    return StudentEvaluation(rows, confusion.tolist(), confusion_teacher.tolist(), domains)


def logits_of(network: torch.nn.Module, images: LabelledImages) -> np.ndarray:
    """Logits (n, num_classes), float32; one batch of images is in memory at a time."""
    device = _device(network)
    return torch.cat([predict(network, batch.to(device)).cpu() for batch in images.batches(BATCH)]).numpy()


@dataclass(frozen=True)
class _Domain:
    """A domain's logits (n, num_judged), student's and teacher's, and labels (n,) as places among ``judged``."""

    logits: np.ndarray
    teacher_logits: np.ndarray
    labels: np.ndarray
    judged: np.ndarray
    num_classes: int

    @staticmethod
    def of(logits: np.ndarray, teacher_logits: np.ndarray, labels: np.ndarray, restrict_below: float) -> _Domain:
        """Leave out the classes that no image has, where there are many of them."""
        num_classes = logits.shape[1]
        present = np.unique(labels)
        judged = present if len(present) < restrict_below * num_classes else np.arange(num_classes)
        places = np.searchsorted(judged, labels)
        return _Domain(logits[:, judged], teacher_logits[:, judged], places, judged, num_classes)

    def rows(self, method: str, seed: int, domain: str) -> list[Row]:
        """All values of the domain."""

        def mean(metric: str, values: np.ndarray) -> Row:
            return _mean_row(method, seed, domain, metric, values)

        count, num_judged = len(self.labels), len(self.judged)
        error = expected_calibration_error(self.logits, self.labels)
        lost = len(vanished(self.logits, self.labels))
        rows = [
            mean("top1", correct(self.logits, self.labels)),
            mean("agreement", correct(self.logits, self.teacher_logits.argmax(1))),
            Row(method, seed, domain, "ece", error, count),
            Row(method, seed, domain, "vanished_classes", lost, len(np.unique(self.labels))),
        ]
        if num_judged > TOP:
            rows.insert(1, mean("top5", correct_in_top(self.logits, self.labels, TOP)))
        if num_judged < self.num_classes:
            rows.append(Row(method, seed, domain, "present_classes", num_judged, count))
        return rows

    def details(self) -> dict[str, Any]:
        """What no row has: top-1 of each class (None where the domain lacks it), lost classes, each image's hit."""
        hits = correct(self.logits, self.labels)
        top1 = per_class(hits, self.judged[self.labels], self.num_classes)
        return {
            "n": len(hits),
            "hits": pack_hits(hits),
            "class_top1": [None if value is None else round(value, 5) for value in top1],
            "vanished": self.judged[vanished(self.logits, self.labels)].tolist(),
        }


def pack_hits(hits: np.ndarray) -> str:
    """Zeros and ones (n,) as text, eight to a byte."""
    return base64.b64encode(np.packbits(hits.astype(bool)).tobytes()).decode()


def unpack_hits(text: str, n: int) -> np.ndarray:
    """The inverse of ``pack_hits``: int8 (n,)."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=n).astype(np.int8)


# --- images ------------------------------------------------------------------------------------------------------


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
        features = judge.features(images.to(_device(judge))).flatten(1).cpu().numpy()
        hits = [correct(predict(network, images.to(_device(network))).cpu().numpy(), labels.numpy())
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
    return [*rows, _mean_row(method, seed, "images", "judge_top1", fake.judge_hits),
            _mean_row(method, seed, "images", "teacher_agreement", fake.teacher_hits)]  # fmt: skip


def halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves with every class's images dealt out in turn."""
    order = np.argsort(labels, kind="stable")
    return np.sort(order[0::2]), np.sort(order[1::2])


def domain_order(domains: np.ndarray) -> list[str]:
    """``id`` first, then the shifted domains by name."""
    return sorted(set(domains.tolist()), key=lambda name: (name != "id", name))


def _device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


def _mean_row(method: str, seed: int, domain: str, metric: str, values: np.ndarray) -> Row:
    interval = bootstrap_interval(values, seed=0) if len(values) > 1 else None
    return Row(method, seed, domain, metric, float(values.mean()), len(values), interval)
