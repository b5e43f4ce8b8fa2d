"""What methods, domains and metrics are called in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prismkd.config.methods import ROWS
from prismkd.records.directory import HELD_OUT
from prismkd.records.scores import SHIFTED
from prismkd.report.formats import decimals, percent

PLACES = {
    "id": "on the original domain",
    SHIFTED: "on shifted domains",
    HELD_OUT["plain"]: "on held-out plain images",
    HELD_OUT["diverse"]: "on held-out diverse images",
}
RIVALS = {"plain": "plain prompts", "real": "the same student of real images"}


def method_label(method: str) -> str:
    """Short name of a method; an unknown one keeps its own."""
    return ROWS[method].label if method in ROWS else method


def method_note(method: str) -> str:
    """What a method is, in a few words."""
    return ROWS[method].note if method in ROWS else ""


def method_class(method: str) -> str:
    """CSS class that colors a method."""
    return f"m-{method}" if method in ROWS else "m-other"


def domain_label(domain: str) -> str:
    """Name of a test domain."""
    known = {
        "id": "Original domain",
        "images": "Image set",
        HELD_OUT["plain"]: "Held-out plain images",
        HELD_OUT["diverse"]: "Held-out diverse images",
    }
    return known.get(domain, domain[:1].upper() + domain[1:])


@dataclass(frozen=True)
class Metric:
    """How a metric is shown; `best` is max or min, None where neither is better."""

    label: str
    hint: str
    write: Callable[[float], str]
    best: Callable[..., float] | None = max


STUDENT_METRICS = {
    "top5": Metric("Top-5, %", "share of test images whose class is among the student's five best guesses", percent),
    "agreement": Metric("Agreement, %", "share of test images where student and teacher say the same", percent),
    "cas": Metric("CAS, %", "top-1 of another student that learned from the images and their labels alone", percent),
    "ece": Metric("Calibration error, %", "how far the student's confidence is off; lower is better", percent, min),
    "vanished_classes": Metric(
        "Vanished classes", "classes that no test image is taken for; lower is better", decimals(1), min
    ),
    "present_classes": Metric(
        "Classes judged", "of a domain that lacks many: answers among these only", decimals(1), None
    ),
}

IMAGE_METRICS = {
    "precision": Metric("Precision", "share of images inside the manifold of real images", decimals(3)),
    "recall": Metric("Recall", "share of real images inside the manifold of these images", decimals(3)),
    "density": Metric("Density", "how deep inside; may exceed 1", decimals(3)),
    "coverage": Metric("Coverage", "share of real images with one of these nearby", decimals(3)),
    "vendi": Metric("Vendi", "effective number of distinct images", decimals(1)),
    "judge_top1": Metric("Judge agrees, %", "an outside classifier recognizes the class", percent),
    "teacher_agreement": Metric("Teacher agrees, %", "the teacher recognizes the class", percent),
    "fd": Metric("FD", "Fr\u00e9chet distance to real images; lower is better", decimals(2), min),
    "kid": Metric("KID", "kernel distance to real images; lower is better", decimals(4), min),
    "sym_precision": Metric("Precision, sym.", "the lower of precision and its mirror image", decimals(3)),
    "sym_recall": Metric("Recall, sym.", "the lower of recall and coverage", decimals(3)),
    "class_precision": Metric("Precision by class", "mean over classes, each within itself", decimals(3)),
    "class_recall": Metric("Recall by class", "mean over classes, each within itself", decimals(3)),
    "class_density": Metric("Density by class", "mean over classes, each within itself", decimals(3)),
    "class_coverage": Metric("Coverage by class", "mean over classes, each within itself", decimals(3)),
}


def metric_of(table: dict[str, Metric], name: str) -> Metric:
    """How to show a metric; one that `table` lacks keeps its name and has no best."""
    return table.get(name, Metric(name, "", decimals(3), None))
