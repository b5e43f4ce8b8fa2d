"""How numbers, methods, domains and metrics are called and written in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prismkd.config.methods import ROWS
from prismkd.records.scores import Score


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
    return {"id": "Original domain", "images": "Image set"}.get(domain, domain[:1].upper() + domain[1:])


def percent(value: float) -> str:
    """0.753 -> "75.3"."""
    return number(100 * value, 1)


def number(value: float, decimals: int) -> str:
    """A number with a true minus sign, never "-0.0"."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\u2212")


def signed(value: float, decimals: int) -> str:
    """As `number`, with a plus sign."""
    text = number(value, decimals)
    return f"+{text}" if value > 0 and float(text) != 0 else text


def duration(seconds: float) -> str:
    """3723 -> "1 h 2 min"; 75 -> "1 min 15 s"; 3.21 -> "3.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {round(seconds) % 60} s"


def uncertainty(found: Score, write: Callable[[float], str]) -> str:
    """How far a mean may be off: "\u00b1 0.4" over seeds, the only seed's "82.1 to 86.4", or nothing."""
    if found.spread is not None:
        return f"\u00b1\u2009{write(found.spread)}"
    return range_text(found.interval, write) if found.interval else ""


def range_text(interval: tuple[float, float], write: Callable[[float], str]) -> str:
    """ "82.1 to 86.4"."""
    return f"{write(interval[0])} to {write(interval[1])}"


@dataclass(frozen=True)
class Metric:
    """How a metric is shown; `best` is max or min, None where neither is better."""

    label: str
    hint: str
    write: Callable[[float], str]
    best: Callable[..., float] | None = max


def _three(value: float) -> str:
    return number(value, 3)


def _one(value: float) -> str:
    return number(value, 1)


def _two(value: float) -> str:
    return number(value, 2)


STUDENT_METRICS = {
    "top5": Metric("Top-5, %", "share of test images whose class is among the student's five best guesses", percent),
    "agreement": Metric("Agreement, %", "share of test images where student and teacher say the same", percent),
    "cas": Metric("CAS, %", "top-1 of another student that learned from the images and their labels alone", percent),
    "ece": Metric("Calibration error, %", "how far the student's confidence is off; lower is better", percent, min),
    "vanished_classes": Metric("Lost classes", "classes that no test image is taken for; lower is better", _one, min),
    "present_classes": Metric("Classes judged", "of a domain that lacks many: answers among these only", _one, None),
}

IMAGE_METRICS = {
    "precision": Metric("Precision", "share of images inside the manifold of real images", _three),
    "recall": Metric("Recall", "share of real images inside the manifold of these images", _three),
    "density": Metric("Density", "how deep inside; may exceed 1", _three),
    "coverage": Metric("Coverage", "share of real images with one of these nearby", _three),
    "vendi": Metric("Vendi", "effective number of distinct images", _one),
    "judge_top1": Metric("Judge agrees, %", "an outside classifier recognizes the class", percent),
    "teacher_agreement": Metric("Teacher agrees, %", "the teacher recognizes the class", percent),
    "fd": Metric("FD", "Fr\u00e9chet distance to real images; lower is better", _two, min),
    "kid": Metric("KID", "kernel distance to real images; lower is better", lambda value: number(value, 4), min),
    "sym_precision": Metric("Precision, sym.", "the lower of precision and its mirror image", _three),
    "sym_recall": Metric("Recall, sym.", "the lower of recall and coverage", _three),
    "class_precision": Metric("Precision by class", "mean over classes, each within itself", _three),
    "class_recall": Metric("Recall by class", "mean over classes, each within itself", _three),
    "class_density": Metric("Density by class", "mean over classes, each within itself", _three),
    "class_coverage": Metric("Coverage by class", "mean over classes, each within itself", _three),
}


def metric_of(table: dict[str, Metric], name: str) -> Metric:
    """How to show a metric; one that `table` lacks keeps its name and has no best."""
    return table.get(name, Metric(name, "", _three, None))
