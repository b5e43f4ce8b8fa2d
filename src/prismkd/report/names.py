"""How numbers, methods, domains and metrics are called and written in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

METHODS = {
    "plain": ("Plain", "one prompt per class, no guidance"),
    "more": ("Plain, more", "plain prompts, more images"),
    "eda": ("EDA only", "plain prompts, energy guidance"),
    "dpe": ("DPE only", "diverse prompts, no guidance"),
    "prism": ("PRISM", "diverse prompts and energy guidance"),
    "real": ("Real images", "same student, real training images"),
    "teacher": ("Teacher", "the network that is distilled"),
}


def method_label(method: str) -> str:
    """Short name of a method; an unknown one keeps its own."""
    return METHODS.get(method, (method, ""))[0]


def method_note(method: str) -> str:
    """What a method is, in a few words."""
    return METHODS.get(method, ("", ""))[1]


def method_class(method: str) -> str:
    """CSS class that colors a method."""
    return f"m-{method}" if method in METHODS else "m-other"


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


@dataclass(frozen=True)
class Metric:
    """How a metric is shown; `best` is max or min, None where neither is better."""

    label: str
    hint: str
    write: Callable[[float], str]
    best: Callable[..., float] | None = max


def _three(value: float) -> str:
    return number(value, 3)


IMAGE_METRICS = {
    "precision": Metric("Precision", "share of images inside the manifold of real images", _three),
    "recall": Metric("Recall", "share of real images inside the manifold of these images", _three),
    "density": Metric("Density", "how deep inside; may exceed 1", _three),
    "coverage": Metric("Coverage", "share of real images with one of these nearby", _three),
    "vendi": Metric("Vendi", "effective number of distinct images", lambda value: number(value, 1)),
    "judge_top1": Metric("Judge, %", "an outside classifier recognizes the class", percent),
    "teacher_agreement": Metric("Teacher, %", "the teacher recognizes the class", percent),
    "fd": Metric("FD", "Fréchet distance to real images, lower is better", _three, min),
    "kid": Metric("KID", "kernel distance to real images, lower is better", _three, min),
}


def image_metric(name: str) -> Metric:
    """How to show a metric of an image set; an unknown one keeps its name and has no best."""
    return IMAGE_METRICS.get(name, Metric(name, "", _three, None))
