"""The precision-recall plane: where the image sets lie, and the path from plain prompts over each part to PRISM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prismkd.config.methods import REFERENCES
from prismkd.records.results import RunResults
from prismkd.records.scores import Score, ceiling_of, image_methods, score
from prismkd.report import formats, names
from prismkd.report.figures import padded_range, shorten, svg, tag, ticks

STEPS = (("plain", "eda"), ("plain", "dpe"), ("eda", "prism"), ("dpe", "prism"), ("dpe", "adapted"),
         ("adapted", "adapted-prism"))  # fmt: skip
LEFT, RIGHT, TOP, BOTTOM = 40.0, 486.0, 26.0, 356.0
Place = tuple[float, float]
Line = tuple[Place, Place]
Placing = Callable[[float, float], Place]  # recall, precision -> x, y
LETTER, LINE = 8.5, 16.0  # what a letter of a name takes in a narrow window, where the names are drawn larger
Box = tuple[float, float, float, float]  # x and y of the upper left corner, x and y of the lower right one


@dataclass(frozen=True)
class Point:
    """An image set in the plane; ``style`` are CSS classes, ``ceiling`` draws lines that no set should pass."""

    key: str
    label: str
    recall: Score
    precision: Score
    style: str
    ceiling: bool = False


def points_of(run: RunResults, prefix: str = "", style: str = "") -> list[Point]:
    """Every image set with precision and recall; keys and labels begin with ``prefix``."""
    ceiling, points = ceiling_of(run.results), []
    for method in image_methods(run.results):
        precision, recall = (score(run.results, method, "images", metric) for metric in ("precision", "recall"))
        if precision and recall:
            label = f"{prefix}{names.method_label(method)}"
            color = style if style and method not in REFERENCES else names.method_class(method)
            points.append(Point(f"{prefix}{method}", label, recall, precision, color, method == ceiling))
    return points


def path(keys: set[str], prefix: str = "") -> list[tuple[str, str]]:
    """Which points to join: plain to each part and on to PRISM; straight where no single part was measured."""
    steps = [(a, b) for a, b in STEPS if prefix + a in keys and prefix + b in keys]
    if not steps and {prefix + "plain", prefix + "prism"} <= keys:
        steps = [("plain", "prism")]
    return [(prefix + a, prefix + b) for a, b in steps]


def plane_figure(points: Sequence[Point], steps: Sequence[tuple[str, str]]) -> Markup | None:
    """Precision (upward) against recall (to the right); bars are standard deviations. None for less than two points."""
    if len(points) < 2:
        return None
    xs, ys = _range([p.recall for p in points]), _range([p.precision for p in points])

    def place(recall: float, precision: float) -> Place:
        x = LEFT + (RIGHT - LEFT) * (recall - xs[0]) / (xs[1] - xs[0])
        return x, BOTTOM - (BOTTOM - TOP) * (precision - ys[0]) / (ys[1] - ys[0])

    places = {p.key: place(p.recall.mean, p.precision.mean) for p in points}
    arrows = [(places[a], places[b]) for a, b in steps]
    limits = [line for p in points if p.ceiling for line in _through(places[p.key])]
    crosses = [(point, bar) for point in points for bar in _spread(point, place)]
    parts = [*_axes(xs, ys, place), *(_line(bar, f"whisker {point.style}") for point, bar in crosses)]
    parts += [_line(line, "target") for line in limits]
    parts += [_arrow(*arrow) for arrow in arrows]
    lines = [*arrows, *limits, *(bar for _, bar in crosses)]
    labels = place_labels(list(places.values()), [shorten(p.label, 26) for p in points], lines)
    parts += [part for p, spot in zip(points, labels, strict=True) for part in _mark(p, places[p.key], spot)]
    return svg(RIGHT + 14, BOTTOM + 42, _alternative(points, steps), parts)


def _through(place: Place) -> list[Line]:
    """The horizontal and the vertical line through a place."""
    x, y = place
    return [((LEFT, y), (RIGHT, y)), ((x, TOP), (x, BOTTOM))]


def _mark(point: Point, place: Place, spot: tuple[float, float, str]) -> list[Markup]:
    """A dot and its name."""
    values = [formats.number(s.mean, 3) for s in (point.precision, point.recall)]
    hint = tag("title", f"{point.label}: precision {values[0]}, recall {values[1]}")
    x, y, anchor = spot
    return [
        tag("circle", hint, cx=place[0], cy=place[1], r=5.5, class_=f"dot {point.style}"),
        tag("text", shorten(point.label, 26), x=x, y=y, class_=f"name {point.style}", text_anchor=anchor),
    ]


def _range(scores: Sequence[Score]) -> tuple[float, float]:
    ends = [end for s in scores for end in (s.mean, s.mean - (s.spread or 0), s.mean + (s.spread or 0))]
    return padded_range(ends)


def _axes(xs: Place, ys: Place, place: Placing) -> list[Markup]:
    parts = [
        tag("text", "\u2191 precision", x=0, y=12, class_="axis"),
        tag("text", "recall \u2192", x=RIGHT, y=BOTTOM + 34, class_="axis", text_anchor="end"),
    ]
    for tick in ticks(*xs, 5):
        x, _ = place(tick, ys[0])
        parts.append(tag("line", x1=x, x2=x, y1=TOP, y2=BOTTOM, class_="grid"))
        parts.append(tag("text", f"{tick:.2f}", x=x, y=BOTTOM + 16, class_="tick", text_anchor="middle"))
    for tick in ticks(*ys, 5):
        _, y = place(xs[0], tick)
        parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{tick:.2f}", x=LEFT - 8, y=y + 4, class_="tick", text_anchor="end"))
    return parts


def _spread(point: Point, place: Placing) -> list[Line]:
    """A cross of one standard deviation over seeds."""
    recall, precision = point.recall, point.precision
    if recall.spread is None or precision.spread is None:
        return []
    return [
        (place(recall.mean - recall.spread, precision.mean), place(recall.mean + recall.spread, precision.mean)),
        (place(recall.mean, precision.mean - precision.spread), place(recall.mean, precision.mean + precision.spread)),
    ]


def _line(line: Line, style: str) -> Markup:
    (x1, y1), (x2, y2) = line
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def _arrow(start: Place, end: Place) -> Markup:
    """A line with a head, short of both dots; nothing where the dots touch."""
    length = math.dist(start, end)
    if length < 18:
        return Markup("")
    ux, uy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    x1, y1, x2, y2 = start[0] + 8 * ux, start[1] + 8 * uy, end[0] - 8 * ux, end[1] - 8 * uy
    wings = [(x2 - 7 * ux - side * 3.5 * uy, y2 - 7 * uy + side * 3.5 * ux) for side in (1, -1)]
    head = "".join(f"M{x:.1f} {y:.1f}L{x2:.1f} {y2:.1f}" for x, y in wings)
    return tag("path", d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}{head}", class_="arrow")


def place_labels(
    places: Sequence[Place], texts: Sequence[str], lines: Sequence[Line]
) -> list[tuple[float, float, str]]:
    """For each dot the place (x, baseline, text-anchor) of its name that covers the least of everything else."""
    obstacles: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    obstacles += [
        (x - 2, y - 2, x + 2, y + 2)
        for start, end in lines
        for x, y in ((start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])) for t in _STRIDES)
    ]
    chosen = []
    for (x, y), text in zip(places, texts, strict=True):
        width = LETTER * len(text)
        options = [(x + 11, y + 4, "start"), (x - 11, y + 4, "end"), (x, y - 12, "middle"), (x, y + 20, "middle")]
        options += [(x + side * 9, y + drop, a) for side, a in ((1, "start"), (-1, "end")) for drop in (-9, 17)]
        boxes = [_text_box(option, width) for option in options]
        costs = [sum(_overlap(box, other) for other in obstacles) + _outside(box) for box in boxes]
        first = costs.index(min(costs))
        obstacles.append(boxes[first])
        chosen.append(options[first])
    return chosen


_STRIDES = [step / 60 for step in range(1, 60)]


def _text_box(option: tuple[float, float, str], width: float) -> Box:
    x, y, anchor = option
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y + 4 - LINE, left + width, y + 4


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box) -> float:
    """Worse than covering anything: running out of the figure."""
    return 1e3 * (max(0.0, LEFT - box[0]) + max(0.0, box[2] - RIGHT - 10) + max(0.0, box[3] - BOTTOM))


def _alternative(points: Sequence[Point], steps: Sequence[tuple[str, str]]) -> str:
    """The figure in words."""
    values = "; ".join(
        f"{p.label} {formats.number(p.precision.mean, 3)} and {formats.number(p.recall.mean, 3)}" for p in points
    )
    label = {p.key: p.label for p in points}
    joined = ", ".join(f"{label[a]} to {label[b]}" for a, b in steps)
    return f"Precision and recall of the image sets: {values}" + (f". Arrows: {joined}" if joined else "")
