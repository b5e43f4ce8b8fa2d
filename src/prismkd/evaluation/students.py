"""A student on labelled test images: accuracy, agreement with its teacher, calibration error, per domain."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from prismkd.classifiers import Classifier, predict
from prismkd.data import LabelledImages
from prismkd.evaluation.rows import BATCH, Row, device_of, mean_row
from prismkd.metrics import (
    correct,
    correct_in_top,
    expected_calibration_error,
    per_class,
    vanished,
)

TOP = 5  # top-5, where there are more classes than that


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
    device = device_of(network)
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
            return mean_row(method, seed, domain, metric, values)

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


def domain_order(domains: np.ndarray) -> list[str]:
    """``id`` first, then the shifted domains by name."""
    return sorted(set(domains.tolist()), key=lambda name: (name != "id", name))
