"""A student on labeled test images: accuracy, agreement with its teacher, calibration error, per domain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from prismkd.classifiers import Ensemble, predict
from prismkd.data import LabeledImages
from prismkd.evaluation.reading import geometry_of, is_cropped, read_for
from prismkd.evaluation.rows import BATCH, Row, count_pairs, device_of, mean_row, no_counts
from prismkd.metrics import (
    correct,
    correct_in_top,
    expected_calibration_error,
    per_class,
    vanished,
)
from prismkd.metrics.hits import domain_order, pack_hits

TOP = 5  # top-5 is reported of domains with more classes than that


class TestImages(Protocol):
    """Labeled images of one or more domains, such as ``prismkd.data.LabeledImages``."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64."""

    @property
    def domains(self) -> np.ndarray:
        """(n,) names."""

    def batches(self, batch_size: int, /) -> Iterable[Tensor]:
        """The images in order, float32 (batch, channels, height, width) in [0, 1]."""


class StudentEvaluation(NamedTuple):
    """A student's results on the test images.

    Attributes:
        rows: the values for ``metrics.json``.
        confusion: counts [true class][predicted class] on the domain ``id``; empty where there are more than
            ``MAX_COUNTED_CLASSES`` classes.
        confusion_teacher: counts [class that the teacher predicts][class that the student predicts] on ``id``.
        domains: by domain, what is known per class and per image (n, hits, class_top1, vanished).
    """

    rows: list[Row]
    confusion: list[list[int]]
    confusion_teacher: list[list[int]]
    domains: dict[str, dict[str, Any]]


def evaluate_student(
    student: torch.nn.Module,
    teacher: torch.nn.Module | None,
    test: TestImages,
    method: str,
    seed: int,
    teacher_logits: np.ndarray | None = None,
    restrict_below: float = 0.0,
) -> StudentEvaluation:
    """Accuracy, agreement with the teacher, calibration error and vanished classes per domain.

    A domain with few of the classes, such as ImageNet-R and -A, is evaluated among those that it has: the logits of the
    others are left out (the protocol of Hendrycks et al. 2021), and the row ``present_classes`` says how many remain.

    Args:
        student: images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes).
        teacher: as the student, which sees files in its geometry where it has none of its own; None: there is no
            agreement to measure.
        test: labeled images; they are decoded a batch at a time, for student and teacher in the geometry of each.
        method: name in the rows.
        seed: seed in the rows.
        teacher_logits: (n, num_classes) where they are known, which saves the teacher's pass over the images.
        restrict_below: share of the classes, in [0, 1]; a domain with a smaller share is evaluated among its own.

    Raises:
        UserError: logits that are not finite.
    """
    logits = logits_of(student, test, teacher)
    if teacher_logits is None and teacher is not None:
        teacher_logits = logits_of(teacher, test)
    labels, rows, details = test.labels.numpy(), list[Row](), dict[str, dict[str, Any]]()
    confusion, confusion_teacher = no_counts(logits.shape[1]), no_counts(logits.shape[1])
    for domain in domain_order(test.domains):
        mask = test.domains == domain
        taught = None if teacher_logits is None else teacher_logits[mask]
        results = _Domain.of(logits[mask], taught, labels[mask], restrict_below)
        rows += results.rows(method, seed, domain)
        details[domain] = results.details()
        if domain == "id":
            student_classes = results.competing[results.logits.argmax(1)]
            count_pairs(confusion, labels[mask], student_classes)
            if results.teacher_logits is not None:
                teacher_classes = results.competing[results.teacher_logits.argmax(1)]
                count_pairs(confusion_teacher, teacher_classes, student_classes)
    return StudentEvaluation(rows, confusion.tolist(), confusion_teacher.tolist(), details)


def logits_of(network: torch.nn.Module, images: TestImages, otherwise: torch.nn.Module | None = None) -> np.ndarray:
    """Logits (n, num_classes), float32; one batch of images is in memory at a time.

    Args:
        network: any.
        images: files are resized and cut with Pillow as the network's own library would do it; images in memory are
            given to it as they are.
        otherwise: the network whose geometry serves where ``network`` has none.
    """
    device = device_of(network)
    if isinstance(network, Ensemble) and len({geometry_of(member) for member in network.members}) > 1:
        outputs = [torch.from_numpy(logits_of(member, images)).to(device) for member in network.members]
        return network.combine(outputs).cpu().numpy()
    seen = read_for(network, images, otherwise) if isinstance(images, LabeledImages) else images
    cropped = is_cropped(network, seen)
    # Each batch's logits leave the device at once; 50,000 x 1,000 of them are 200 MB, the images 30 GB
    batches = (predict(network, batch.to(device), cropped=cropped).cpu() for batch in seen.batches(BATCH))
    return torch.cat(list(batches)).numpy()


@dataclass(frozen=True)
class _Domain:
    """One domain's images among the classes that compete there.

    Attributes:
        logits: the student's (n, num_competing).
        teacher_logits: the teacher's, the same shape; None without a teacher.
        labels: (n,) as places among ``competing``.
        competing: (num_competing,) the classes, ascending.
        num_classes: of the student.
    """

    logits: np.ndarray
    teacher_logits: np.ndarray | None
    labels: np.ndarray
    competing: np.ndarray
    num_classes: int

    @staticmethod
    def of(logits: np.ndarray, teacher_logits: np.ndarray | None, labels: np.ndarray, restrict_below: float) -> _Domain:
        """Leave out the classes that no image has, where fewer than ``restrict_below`` of all classes are present."""
        num_classes = logits.shape[1]
        present = np.unique(labels)
        competing = present if len(present) < restrict_below * num_classes else np.arange(num_classes)
        places = np.searchsorted(competing, labels)
        taught = None if teacher_logits is None else teacher_logits[:, competing]
        return _Domain(logits[:, competing], taught, places, competing, num_classes)

    def rows(self, method: str, seed: int, domain: str) -> list[Row]:
        """The domain's values for ``metrics.json``."""

        def mean(metric: str, values: np.ndarray) -> Row:
            return mean_row(method, seed, domain, metric, values)

        count, num_competing = len(self.labels), len(self.competing)
        calibration_error = expected_calibration_error(self.logits, self.labels)
        num_vanished = len(vanished(self.logits, self.labels))
        rows = [mean("top1", correct(self.logits, self.labels))]
        if num_competing > TOP:
            rows.append(mean("top5", correct_in_top(self.logits, self.labels, TOP)))
        if self.teacher_logits is not None:
            # Among the competing classes too: the teacher is restricted as the student is
            rows.append(mean("agreement", correct(self.logits, self.teacher_logits.argmax(1))))
        rows += [
            Row(method, seed, domain, "ece", calibration_error, count),
            Row(method, seed, domain, "vanished_classes", num_vanished, len(np.unique(self.labels))),
        ]
        if num_competing < self.num_classes:
            rows.append(Row(method, seed, domain, "present_classes", num_competing, count))
        return rows

    def details(self) -> dict[str, Any]:
        """Top-1 of each class (None where the domain lacks it), vanished classes, and whether each image was right.

        The hits of every image make paired comparisons of two runs possible (``metrics.paired``).
        """
        hits = correct(self.logits, self.labels)
        # By the classes' own numbers: a domain with few classes gets None for the others
        top1 = per_class(hits, self.competing[self.labels], self.num_classes)
        return {
            "n": len(hits),
            "hits": pack_hits(hits),
            "class_top1": [None if value is None else round(value, 5) for value in top1],
            "vanished": self.competing[vanished(self.logits, self.labels)].tolist(),
        }
