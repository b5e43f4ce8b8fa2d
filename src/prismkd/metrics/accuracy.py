"""Top-1 accuracy, and agreement of the student with the teacher."""

from __future__ import annotations

import numpy as np

from prismkd.errors import UserError


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Per sample, 1.0 where the largest logit is the label's and 0.0 elsewhere: float64 (n,), for a bootstrap interval.

    Args:
        logits: (n, num_classes), finite.
        labels: integers (n,).

    Raises:
        UserError: no sample, shapes that do not belong together, or logits that are not finite.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.size == 0:
        raise UserError(
            f"expected logits (n, num_classes) and labels (n,) with n >= 1, got {logits.shape} and {labels.shape}; "
            "do pass one row of logits and one label per image"
        )
    if not np.isfinite(logits).all():
        raise UserError("expected finite logits, got NaN or infinity; do check the network's weights and its input")
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """The fraction in [0, 1] of samples that are ``correct``."""
    return float(correct(logits, labels).mean())


def agreement(student_logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """The fraction in [0, 1] of samples where student and teacher predict the same class; both (n, num_classes)."""
    if student_logits.shape != teacher_logits.shape:
        raise UserError(
            f"expected student and teacher logits of one shape, got {student_logits.shape} and {teacher_logits.shape}; "
            "do run both networks on the same images and classes"
        )
    return top1(student_logits, teacher_logits.argmax(axis=1))
