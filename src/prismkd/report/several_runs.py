"""Several runs -> tables and figures that hold all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from prismkd.config.methods import REFERENCES
from prismkd.records.scores import Result, image_methods, methods
from prismkd.report import formats, names, precision_recall, tables
from prismkd.report.figures import Mark
from prismkd.report.margins import Rows
from prismkd.report.named_run import NamedRun
from prismkd.report.panels import Panel, marked_panels
from prismkd.report.table import Cell, Column, Head, Row, Table, score_table
from prismkd.report.yardstick import Yardstick
from prismkd.shards import differing_keys

MEASURES_OF_IMAGES = ("judge", "nearest_k", "max_images", "real")  # settings that image metrics depend on


def _rows(
    runs: Sequence[NamedRun], choose: Callable[[list[Result]], list[str]], yardstick: Yardstick
) -> tuple[Rows, dict[tuple[str, str], Head]]:
    """A row for every method that ``choose`` takes of every run; a method's rows stand together."""
    methods_of_run = {named.letter: choose(named.run.results) for named in runs}
    order = methods(result for named in runs for result in named.run.results)
    pairs = [(named, method) for method in order for named in runs if method in methods_of_run[named.letter]]
    rows: Rows = {(named.letter, method): (named.run, method) for named, method in pairs}
    heads = {(n.letter, m): _head(n, m, yardstick) for n, m in pairs}
    return rows, heads


def _head(named: NamedRun, method: str, yardstick: Yardstick) -> Head:
    head = tables.measured_head(method, yardstick, f", {named.letter}")
    return Head(
        head.label, named.name, f"m-run {named.style}" + (" reference" if head.reference else ""), head.reference
    )


def accuracy_table(runs: Sequence[NamedRun], yardstick: Yardstick) -> Table | None:
    rows, heads = _rows(runs, methods, yardstick)
    caption = f"{yardstick.name} of every run's students, in percent."
    return score_table(caption, "Student from, run", tables.accuracy_columns(rows, yardstick), heads)


def image_table(runs: Sequence[NamedRun]) -> Table | None:
    rows, heads = _rows(runs, image_methods, Yardstick("top1", ()))
    caption = "The image sets, measured without any student" + (f": {runs[0].title}." if len(runs) == 1 else ".")
    return score_table(caption, "Images, run", tables.image_columns(rows)[: tables.NUM_CHIEF], heads)


def domain_panels(runs: Sequence[NamedRun], yardstick: Yardstick) -> list[Panel]:
    """Every run's student and teacher on each domain, all on one axis."""
    return marked_panels(yardstick.name, {domain: _marks(runs, yardstick, domain) for domain in yardstick.domains})


def _marks(runs: Sequence[NamedRun], yardstick: Yardstick, domain: str) -> list[Mark]:
    """The runs' students, and their teachers: one where they are the same."""
    students = [(n, n.student, yardstick.of(n.run.results, n.student, domain)) for n in runs if n.student != "teacher"]
    teachers = [(n, "teacher", yardstick.of(n.run.results, "teacher", domain)) for n in runs]
    shared = len({s.mean for _, _, s in teachers if s}) == 1 and all(s for _, _, s in teachers)
    measured = students + (teachers[:1] if shared else teachers)
    return [
        Mark(
            names.method_label(m) if shared and m == "teacher" else f"{named.letter} {names.method_label(m)}",
            s.mean,
            s.interval,
            _colors(named, m),
        )
        for named, m, s in measured
        if s
    ]


def _colors(named: NamedRun, method: str) -> str:
    return names.method_class(method) if method in REFERENCES else named.style


def plane_of_runs(runs: Sequence[NamedRun]) -> Markup | None:
    """The path of every run in one plane."""
    points: list[precision_recall.Point] = []
    steps: list[tuple[str, str]] = []
    for named in runs:
        of_run = precision_recall.points_of(named.run, f"{named.letter} ", named.style)
        # One ceiling is enough: runs stand in one plane only where they were measured against the same real images
        points += [p for p in of_run if not (p.ceiling and any(other.ceiling for other in points))]
        steps += precision_recall.path({p.key for p in of_run}, f"{named.letter} ")
    return precision_recall.plane_figure(points, steps)


def same_measures_of_images(runs: Sequence[NamedRun]) -> bool:
    """Whether precision and recall are of one judge's features, neighbors and counts."""
    settings = [named.run.record.get("config", {}).get("evaluation", {}) for named in runs]
    return all(other.get(key) == settings[0].get(key) for other in settings[1:] for key in MEASURES_OF_IMAGES)


def cost_table(runs: Sequence[NamedRun]) -> Table | None:
    """Wall-clock time of every stage in every run."""
    timings = {named.letter: tables.timings_of(named.run) for named in runs}
    stages = dict.fromkeys(key for of_run in timings.values() for key in of_run)
    order = sorted(stages, key=lambda key: tables.place_in_work(key[0]))
    if not order:
        return None
    columns = [Column("Stage", numeric=False), Column("Method", numeric=False), *(Column(n.title) for n in runs)]
    table = Table("Wall-clock time, the mean over seeds; each run on its own hardware.", columns)
    for stage, method in order:
        cells = [Cell(names.method_label(method) or "\u2013")]
        for named in runs:
            seconds, images = timings[named.letter].get((stage, method), (0.0, 0.0))
            note = f"{images:,.0f} images" if images else ""
            cells.append(Cell(formats.duration(seconds), seconds, note) if seconds else Cell("\u2013"))
        table.rows.append(Row(stage[:1].upper() + stage[1:], cells))
    totals = [tables.total_seconds(named.run) for named in runs]
    table.rows.append(Row("All, every seed", [Cell("\u2013"), *(Cell(formats.duration(t), t) for t in totals)]))
    return table


def settings_table(runs: Sequence[NamedRun]) -> Table | None:
    """The settings in which the runs differ, and no others."""
    configs = [dict(named.run.record.get("config", {})) for named in runs]
    changed = sorted({name for config in configs[1:] for name in differing_keys(configs[0], config)})
    if not changed:
        return None
    columns = [Column("Setting", numeric=False), *(Column(named.title, numeric=False) for named in runs)]
    rows = [Row(name, [Cell(_setting(config, name)) for config in configs]) for name in changed]
    return Table("Settings in which the runs differ.", columns, rows)


def _setting(config: dict[str, Any], name: str) -> str:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "\u2013" if value is None else value if isinstance(value, str) and value else json.dumps(value)
