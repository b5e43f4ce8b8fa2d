"""Measuring: students on test images, and image sets against real ones."""

from prismkd.evaluation.images import View, compare_images, evaluate_images, halves, labelled_batches, view
from prismkd.evaluation.rows import BATCH, Batches, Row
from prismkd.evaluation.students import (
    StudentEvaluation,
    domain_order,
    evaluate_student,
    logits_of,
    pack_hits,
    unpack_hits,
)

__all__ = [
    "BATCH",
    "Batches",
    "Row",
    "StudentEvaluation",
    "View",
    "compare_images",
    "domain_order",
    "evaluate_images",
    "evaluate_student",
    "halves",
    "labelled_batches",
    "logits_of",
    "pack_hits",
    "unpack_hits",
    "view",
]
