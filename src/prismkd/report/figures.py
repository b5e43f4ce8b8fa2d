"""Numbers -> inline SVG. Colors come from CSS classes, so that a figure follows light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from prismkd.report.formats import number, percent


@dataclass(frozen=True)
class Mark:
    """One value in a figure: its name, its place, a whisker, and the CSS class of its color."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    style: str = ""


def dot_figure(title: str, marks: Sequence[Mark], low: float, high: float) -> Markup:
    """One labeled lane per mark, accuracies in [0, 1] on an axis from `low` to `high`; the whisker is `interval`."""
    left, right, lane, top = 88.0, 300.0, 21.0, 4.0  # units of the view box, which is 340 wide
    bottom = top + lane * len(marks)

    def x(value: float) -> float:
        return left + (right - left) * (min(max(value, low), high) - low) / (high - low)

    parts = []
    for tick in ticks(low, high, 4):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid"))
        parts.append(tag("text", f"{100 * tick:.0f}", x=x(tick), y=bottom + 14, class_="tick", text_anchor="middle"))
    for index, mark in enumerate(marks):
        y = top + lane * (index + 0.5)
        parts.append(tag("text", shorten(mark.label, 14), x=0, y=y + 4, class_=f"name {mark.style}"))
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="lane"))
        if mark.interval:
            parts.append(
                tag("line", x1=x(mark.interval[0]), x2=x(mark.interval[1]), y1=y, y2=y, class_=f"whisker {mark.style}")
            )
        parts.append(
            tag(
                "circle",
                tag("title", f"{mark.label}: {percent(mark.value)}%"),
                cx=x(mark.value),
                cy=y,
                r=4.5,
                class_=f"dot {mark.style}",
            )
        )
        parts.append(tag("text", percent(mark.value), x=340, y=y + 4, class_=f"value {mark.style}", text_anchor="end"))
    values = ", ".join(f"{mark.label} {percent(mark.value)}%" for mark in marks)
    return svg(340, bottom + 20, f"{title}: {values}", parts)


def histogram_figure(
    title: str,
    before: Sequence[float],
    after: Sequence[float],
    low: float,
    high: float,
    target: float | None = None,
    style: str = "",
    num_bins: int = 36,
) -> Markup:
    """Shares of images per bin: `before` as an outline, `after` filled; `target` is a dashed line.

    Values beyond [low, high] count in the outermost bins.
    """
    width, top, bottom = 340.0, 12.0, 132.0
    edges = np.linspace(low, high, num_bins + 1)
    # Shares and not counts: the two sets differ in size where only some images have a value before guidance
    shares = [np.histogram(np.clip(values, low, high), edges)[0] / max(len(values), 1) for values in (before, after)]
    peak = max(float(max(share.max() for share in shares)), 1e-12)
    step = width / num_bins

    def outline(share: NDArray[np.float64]) -> str:
        heights = bottom - (bottom - top) * share / peak
        steps = [f"V{y:.1f}H{(index + 1) * step:.1f}" for index, y in enumerate(heights)]
        return f"M0 {bottom:.1f}{''.join(steps)}V{bottom:.1f}"

    parts = []
    if len(after):
        parts.append(tag("path", d=outline(shares[1]), class_=f"after {style}"))
    if len(before):
        parts.append(tag("path", d=outline(shares[0]), class_="before"))
    parts.append(tag("line", x1=0, x2=width, y1=bottom, y2=bottom, class_="lane"))
    for tick in ticks(low, high, 5):
        x = width * (tick - low) / (high - low)
        anchor = "start" if x < 12 else "end" if x > width - 12 else "middle"
        parts.append(
            tag(
                "text",
                number(tick, 0 if abs(tick) >= 1 or tick == 0 else 2),
                x=x,
                y=bottom + 16,
                class_="tick",
                text_anchor=anchor,
            )
        )
    if target is not None and low <= target <= high:
        x = width * (target - low) / (high - low)
        parts.append(tag("line", x1=x, x2=x, y1=top - 8, y2=bottom, class_="target"))
    medians = [
        f"{name} {number(float(np.median(v)), 2)}" for name, v in (("before", before), ("after", after)) if len(v)
    ]
    return svg(width, bottom + 22, f"{title}, median {', '.join(medians)}", parts)


def heat_map(classes: Sequence[str], confusion: NDArray[np.float64], rows: str) -> Markup:
    """Row-normalized confusion: one row per class it should be (by `rows`: "true classes"), one column per answer."""
    cell = 22.0 if len(classes) <= 30 else 14.0 if len(classes) <= 60 else 10.0  # 100 fit a page's width
    style, drop = ("name", 4.0) if cell > 10 else ("name small", 3.0)
    left = top = 92.0
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = cell * len(classes)
    parts = [tag("rect", x=left, y=top, width=size, height=size, class_="field")]
    for row, name in enumerate(classes):
        middle = cell * (row + 0.5)
        parts.append(tag("text", shorten(name, 14), x=left - 7, y=top + middle + drop, class_=style, text_anchor="end"))
        parts.append(
            tag(
                "text",
                shorten(name, 14),
                transform=f"translate({left + middle + drop} {top - 7}) rotate(-90)",
                class_=style,
            )
        )
        for column, answer in enumerate(classes):
            share = float(shares[row, column])
            if share > 0:
                hint = f"{name} seen as {answer}: {percent(share)}% ({confusion[row, column]:.0f})"
                x, y = left + cell * column, top + cell * row
                parts.append(_heat_cell(hint, share, x, y, cell, "hit" if row == column else "miss"))
    diagonal = percent(float(np.trace(confusion) / max(confusion.sum(), 1)))
    label = f"Confusion matrix of {len(classes)} classes, rows are {rows}; {diagonal}% lie on the diagonal"
    return svg(left + size + 4, top + size + 4, label, parts, natural=True)


def _heat_cell(hint: str, share: float, x: float, y: float, size: float, style: str) -> Markup:
    opacity = f"{0.08 + 0.92 * share**0.7:.2f}"  # one image of a hundred is still seen
    inner = size - 1
    place = {"x": x + 0.5, "y": y + 0.5, "width": inner, "height": inner}
    return tag("rect", tag("title", hint), **place, fill_opacity=opacity, class_=style)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda step: abs(step - rough))
    # The tolerance keeps a tick that rounding put a hair outside of the range
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def padded_range(values: Sequence[float], share: float = 0.12) -> tuple[float, float]:
    """A range somewhat wider than the values, never empty."""
    low, high = min(values), max(values)
    pad = share * (high - low) or 0.05
    return low - pad, high + pad


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def tag(name: str, content: str | Markup = "", **attributes: str | float) -> Markup:
    """An SVG element; attribute `class_` is "class", `text_anchor` is "text-anchor". Text and values are escaped."""
    written = "".join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"),
            f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value,
        )
        for key, value in attributes.items()
    )
    return Markup("<{}{}>{}</{}>").format(Markup(name), Markup(written), escape(content), Markup(name))


def svg(width: float, height: float, label: str, parts: Sequence[Markup], natural: bool = False) -> Markup:
    """A figure read out as `label`; it fills its column, or keeps its size when `natural`."""
    size: dict[str, str | float] = {"width": width, "height": height} if natural else {}
    return tag(
        "svg", Markup("").join(parts), viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=label, **size
    )
