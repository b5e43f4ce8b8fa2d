"""A run -> tables: plain data that the template writes as HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prismkd.report import names
from prismkd.report.run_directory import Run
from prismkd.report.scores import REFERENCES, Score, best, methods, score, shifted_domains, shifted_score


@dataclass(frozen=True)
class Cell:
    """Text of a cell; `value` sorts it, `bar` in [0, 1] draws a bar behind it."""

    text: str
    value: float | None = None
    note: str = ""
    best: bool = False
    bar: float | None = None


@dataclass(frozen=True)
class Row:
    """First cell (the row's heading) and the rest; `style` are CSS classes."""

    label: str
    cells: list[Cell]
    note: str = ""
    style: str = ""


@dataclass(frozen=True)
class Column:
    """Heading of a column, with an explanation where its name needs one."""

    label: str
    hint: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table with its caption; `columns` includes the first."""

    caption: str
    columns: list[Column]
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class MethodColumn:
    """One column of a table with a row per method: the scores, how to write them, and whether max or min is best."""

    column: Column
    scores: dict[str, Score | None]
    write: Callable[[float], str]
    best: Callable[..., float] | None = max


def accuracy_table(run: Run) -> Table | None:
    """Top-1 of every method on every domain, in percent, best data-free one marked."""
    shifted = shifted_domains(run.results)
    columns = {"id": {m: score(run.results, m, "id") for m in methods(run.results)}}
    if len(shifted) > 1:
        columns["mean shifted"] = {m: shifted_score(run.results, m) for m in methods(run.results)}
    for domain in shifted:
        columns[domain] = {m: score(run.results, m, domain) for m in methods(run.results)}
    hints = {"id": "held-out real images like the teacher's", "mean shifted": f"mean of {', '.join(shifted)}"}
    table = _method_table(
        "Top-1 accuracy of the students, in percent.",
        "Student from",
        [
            MethodColumn(Column(names.domain_label(domain), hints.get(domain, "")), scores, names.percent)
            for domain, scores in columns.items()
        ],
    )
    return table if table.rows else None


def behavior_table(run: Run) -> Table | None:
    """Agreement with the teacher and expected calibration error, on the original and the shifted domains."""
    everyone = [m for m in methods(run.results) if m != "teacher"]
    columns = []
    for metric, label, hint, choose in (
        ("agreement", "Agreement", "share of test images where student and teacher say the same", max),
        ("ece", "Calibration error", "expected calibration error of the student, lower is better", min),
    ):
        on_id = {m: score(run.results, m, "id", metric) for m in everyone}
        on_shifted = {m: shifted_score(run.results, m, metric) for m in everyone}
        for where, scores in (("original", on_id), ("shifted", on_shifted)):
            if any(scores.values()):
                columns.append(MethodColumn(Column(f"{label}, {where}", hint), scores, names.percent, choose))
    caption = "How the students agree with the teacher and how honest their confidence is, in percent."
    table = _method_table(caption, "Student from", columns)
    return table if table.rows else None


def image_table(run: Run) -> Table | None:
    """Metrics of the image sets themselves; the real set against other real images is the ceiling."""
    rows = [r for r in run.results if r.domain == "images"]
    found = {r.metric for r in rows}
    order = [*(m for m in names.IMAGE_METRICS if m in found), *sorted(found - names.IMAGE_METRICS.keys())]
    columns = []
    for name in order:
        metric = names.image_metric(name)
        scores = {m: score(rows, m, "images", name) for m in methods(rows)}
        columns.append(MethodColumn(Column(metric.label, metric.hint), scores, metric.write, metric.best))
    table = _method_table("The image sets, measured without any student.", "Images", columns, {"real": "ceiling"})
    return table if table.rows else None


def _method_table(
    caption: str, corner: str, columns: list[MethodColumn], labels: dict[str, str] | None = None
) -> Table:
    table = Table(caption, [Column(corner, numeric=False), *(column.column for column in columns)])
    winners = [best(column.scores, column.best) if column.best else set() for column in columns]
    for method in dict.fromkeys(method for column in columns for method in column.scores):
        cells = [
            _score_cell(column.scores.get(method), column.write, method in winner)
            for column, winner in zip(columns, winners, strict=True)
        ]
        if any(cell.value is not None for cell in cells):
            style = names.method_class(method) + (" reference" if method in REFERENCES else "")
            suffix = f" ({labels[method]})" if labels and method in labels else ""
            table.rows.append(Row(names.method_label(method) + suffix, cells, names.method_note(method), style))
    return table


def _score_cell(value: Score | None, write: Callable[[float], str], is_best: bool) -> Cell:
    if value is None:
        return Cell("\u2013")
    note = "" if value.spread is None else f"\u00b1\u2009{write(value.spread)}"
    return Cell(write(value.mean), value.mean, note, is_best)


def timing_table(run: Run) -> Table | None:
    """Seconds of every stage and method, mean over seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in run.metrics.get("timings", []):
        groups.setdefault((str(row.get("stage")), str(row.get("method") or "")), []).append(row)
    if not groups:
        return None
    table = Table("Wall-clock time of each stage, mean over seeds.", [Column("Stage", numeric=False)])
    table.columns.extend(
        [Column("Method", numeric=False), Column("Time"), Column("Images"), Column("Images per second")]
    )
    for (stage, method), rows in groups.items():
        seconds = fmean(float(row.get("seconds") or 0) for row in rows)
        images = fmean(float(row.get("images") or 0) for row in rows)
        rate = images / seconds if seconds > 0 else 0.0
        cells = [Cell(names.method_label(method) or "\u2013"), Cell(names.duration(seconds), seconds)]
        cells.append(Cell(f"{images:,.0f}", images) if images else Cell("\u2013"))
        cells.append(Cell(f"{rate:,.1f}", rate) if rate else Cell("\u2013"))
        table.rows.append(Row(stage[:1].upper() + stage[1:], cells))
    return table


def calibration_table(run: Run) -> Table | None:
    """Energy target of every class, and how many unguided images it rests on."""
    targets = (run.calibration or {}).get("energy_target") or []
    counts = (run.calibration or {}).get("per_class_count") or []
    if not targets:
        return None
    table = Table("Energy target per class, and the unguided images it rests on.", [Column("Class", numeric=False)])
    table.columns.extend([Column("Target energy", "lower is more in-distribution"), Column("Images")])
    most = max([*counts, 1])
    for label, target in enumerate(targets):
        count = counts[label] if label < len(counts) else None
        cells = [Cell(names.number(float(target), 2), float(target))]
        cells.append(Cell("\u2013") if count is None else Cell(str(count), float(count), bar=count / most))
        table.rows.append(Row(class_name(run, label), cells))
    return table


def confused_table(run: Run, confusion: NDArray[np.float64], num_pairs: int = 10) -> Table | None:
    """The pairs (true class, said class) that cost the student most."""
    mistakes = confusion - np.diag(np.diag(confusion))
    totals = confusion.sum(axis=1)
    table = Table("Most frequent mistakes.", [Column("True class", numeric=False)])
    table.columns.extend([Column("Student says", numeric=False), Column("Images"), Column("% of class")])
    for flat in np.argsort(-mistakes, axis=None, kind="stable")[:num_pairs]:
        true, said = divmod(int(flat), confusion.shape[1])
        count = mistakes[true, said]
        if count > 0:
            cells = [Cell(class_name(run, said)), Cell(f"{count:.0f}", count)]
            cells.append(Cell(names.percent(count / totals[true]), count / totals[true]))
            table.rows.append(Row(class_name(run, true), cells))
    return table if table.rows else None


def class_name(run: Run, label: int) -> str:
    """Name of a class; its number where the run has no name for it."""
    return run.classes[label] if 0 <= label < len(run.classes) else f"class {label}"
