"""Losses over steps, several trainings in one figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from prismkd.report.figures import shorten, svg, tag, ticks
from prismkd.report.formats import number

LEFT, RIGHT, TOP, BOTTOM, WIDTH = 40.0, 400.0, 14.0, 236.0, 500.0
LABEL_HEIGHT = 15.0


@dataclass(frozen=True)
class Curve:
    """A training: the mean loss over each of equal parts of its steps, and the CSS class of its color."""

    label: str
    num_steps: int
    losses: Sequence[float]
    style: str = ""


def curve_figure(title: str, curves: Sequence[Curve]) -> Markup:
    """Loss on a logarithmic axis against the step; each curve is named at its end."""
    positive = [loss for curve in curves for loss in curve.losses if loss > 0]
    low, high = _axis(min(positive, default=0.1), max(positive, default=1.0))
    last = max(curve.num_steps for curve in curves)

    def x(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / last

    def y(loss: float) -> float:
        share = (math.log(max(loss, low)) - math.log(low)) / (math.log(high) - math.log(low))
        return BOTTOM - (BOTTOM - TOP) * share

    parts = [tag("text", "\u2191 loss", x=0, y=9, class_="axis"), *_grid(low, high, last, x, y)]
    ends = []
    for curve in curves:
        size = curve.num_steps / len(curve.losses)
        # A part's mean stands in its middle
        places = [(x((part + 0.5) * size), y(loss)) for part, loss in enumerate(curve.losses)]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        parts.append(tag("path", tag("title", _in_words(curve)), d=f"M{path}", class_=f"curve {curve.style}"))
        ends.append(places[-1])
    for curve, (a, b), label in zip(curves, ends, _apart([b for _, b in ends]), strict=True):
        parts.append(tag("circle", cx=a, cy=b, r=3.5, class_=f"dot {curve.style}"))
        parts.append(tag("text", shorten(curve.label, 14), x=a + 9, y=label + 4, class_=f"name {curve.style}"))
    return svg(WIDTH, BOTTOM + 38, f"{title}: {'; '.join(map(_in_words, curves))}", parts)


def _in_words(curve: Curve) -> str:
    first, last = (number(curve.losses[place], 2) for place in (0, -1))
    return f"{curve.label} from {first} to {last} in {curve.num_steps:,} steps"


def _axis(low: float, high: float) -> tuple[float, float]:
    """Ends somewhat beyond the losses, never equal."""
    pad = max((high / low) ** 0.06, 1.03)
    return low / pad, high * pad


def _grid(low: float, high: float, last: int, x: Callable[[float], float], y: Callable[[float], float]) -> list[Markup]:
    parts = []
    for loss in loss_ticks(low, high):
        parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=y(loss), y2=y(loss), class_="grid"))
        parts.append(tag("text", f"{loss:g}", x=LEFT - 8, y=y(loss) + 4, class_="tick", text_anchor="end"))
    for step in ticks(0, last, 4):
        anchor = "start" if step == 0 else "middle"
        parts.append(tag("text", f"{step:,.0f}", x=x(step), y=BOTTOM + 16, class_="tick", text_anchor=anchor))
    parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="lane"))
    parts.append(tag("text", "step \u2192", x=RIGHT, y=BOTTOM + 32, class_="axis", text_anchor="end"))
    return parts


def loss_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]; round numbers where fewer than two of these are."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    found = [round(loss, 10) for loss in found if low <= loss <= high]
    return found if len(found) > 1 else ticks(low, high, 3)


def _apart(heights: Sequence[float]) -> list[float]:
    """Where names stand beside their curves' ends: near them, and none on another."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    placed = list(heights)
    for before, place in pairwise(order):
        placed[place] = max(placed[place], placed[before] + LABEL_HEIGHT)
    # Pushed down, the lowest may have left the figure: from there they are pushed back up
    floor = BOTTOM
    for place in reversed(order):
        placed[place] = min(placed[place], floor)
        floor = placed[place] - LABEL_HEIGHT
    return placed
