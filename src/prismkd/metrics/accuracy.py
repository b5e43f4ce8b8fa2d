"""Top-1 and top-k accuracy, pooled and per class, and agreement of the student with the teacher."""

from __future__ import annotations

import numpy as np

from prismkd.errors import UserError
from prismkd.metrics.arrays import Array, to_numpy


def correct(logits: Array, labels: Array) -> np.ndarray:
    """Per sample, 1.0 where the largest logit is the label's and 0.0 elsewhere: float64 (n,), for a bootstrap interval.

    Args:
        logits: (n, num_classes), finite.
        labels: integers (n,).

    Raises:
        UserError: no sample, shapes that do not belong together, or logits that are not finite.
    """
    logits, labels = to_numpy(logits), to_numpy(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.size == 0:
        raise UserError(
            f"expected logits (n, num_classes) and labels (n,) with n >= 1, got {logits.shape} and {labels.shape}; "
            "do pass one row of logits and one label per image"
        )
    if not np.isfinite(logits).all():
        raise UserError("expected finite logits, got NaN or infinity; check the network's weights and its input")
    # argmax takes the first of equal logits: a network that has collapsed to one value is right about class 0 only
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def top1(logits: Array, labels: Array) -> float:
    """Top-1 accuracy, in [0, 1]: the share of samples whose largest logit is the label's.

    Raises:
        UserError: as ``correct``.
    """
    return float(correct(logits, labels).mean())


def agreement(student_logits: Array, teacher_logits: Array) -> float:
    """The share of samples, in [0, 1], for which student and teacher predict the same class.

    Args:
        student_logits: (n, num_classes), finite.
        teacher_logits: the same shape.

    Raises:
        UserError: different shapes, no sample, or logits that are not finite.
    """
    student_logits, teacher_logits = to_numpy(student_logits), to_numpy(teacher_logits)
    if student_logits.shape != teacher_logits.shape:
        raise UserError(
            f"expected student and teacher logits of one shape, got {student_logits.shape} and {teacher_logits.shape}; "
            "do run both networks on the same images and classes"
        )
    return top1(student_logits, teacher_logits.argmax(axis=1))


def correct_in_top(logits: Array, labels: Array, k: int) -> np.ndarray:
    """Per sample, 1.0 where the label's logit is among the k largest, else 0.0: float64 (n,).

    Among equal logits the earlier class counts as larger, as for ``correct``: k = 1 is the same.

    Args:
        logits: (n, num_classes), finite.
        labels: integers (n,).
        k: at least 1.

    Raises:
        UserError: as ``correct``.
    """
    logits, labels = to_numpy(logits), to_numpy(labels)
    correct(logits, labels)  # for its checks
    largest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return np.asarray((largest == labels[:, None]).any(axis=1), dtype=np.float64)


def per_class(hits: Array, labels: Array, num_classes: int) -> list[float | None]:
    """The mean of ``hits`` over each class's samples, num_classes values; None for a class without samples.

    Args:
        hits: (n,), for example of ``correct``.
        labels: integers (n,) in [0, num_classes).
        num_classes: length of the result.
    """
    hits, labels = to_numpy(hits), to_numpy(labels)
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=hits, minlength=num_classes)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def vanished(logits: Array, labels: Array) -> list[int]:
    """The classes among ``labels`` that no sample is predicted as, ascending.

    A student that was taught with images of few modes loses whole classes; mean accuracy hardly shows it.

    Args:
        logits: (n, num_classes).
        labels: integers (n,).
    """
    return sorted(set(to_numpy(labels).tolist()) - set(to_numpy(logits).argmax(axis=1).tolist()))
