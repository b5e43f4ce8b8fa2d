"""Several runs -> one page that shows them side by side, where they can be compared at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from prismkd.errors import UserError
from prismkd.records.comparison import basis_of, check_comparable, listed
from prismkd.records.results import RunResults, expected_shape, load_run
from prismkd.records.scores import (
    REFERENCES,
    Score,
    image_methods,
    methods,
    score,
    shifted_domains,
    shifted_score,
    subject,
)
from prismkd.records.verdict import DomainComparison, compare_hits
from prismkd.report import figures, names, plane, tables
from prismkd.report.build import Panel, command_of, provenance, render, run_name, write_page
from prismkd.report.figures import Mark
from prismkd.report.headline import PLACES, KeyFigure
from prismkd.report.margins import SHIFTED
from prismkd.report.tables import Cell, Column, Head, Row, Rows, Table
from prismkd.shards import differing_keys

MAX_RUNS = 8  # as many colors as can be told apart
MEASURES_OF_IMAGES = ("judge", "nearest_k", "max_images", "real")  # settings that image metrics depend on


@dataclass(frozen=True)
class NamedRun:
    """A run with the letter and the name that it goes by on the page."""

    letter: str
    name: str
    run: RunResults

    @property
    def title(self) -> str:
        """As "A, baseline"."""
        return f"{self.letter}, {self.name}"

    @property
    def style(self) -> str:
        """CSS class that colors the run."""
        return f"r-{self.letter.lower()}"

    @property
    def student(self) -> str:
        """The method that the page is about."""
        return subject(self.run.results)[0]


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write one page with several runs side by side; the runs stay as they are.

    Raises:
        UserError: fewer than 2 runs or too many, the same one twice, no folder for the page, a run that has not been
            evaluated, or runs of other classes or test images.
    """
    if not 2 <= len(folders) <= MAX_RUNS or len({folder.resolve() for folder in folders}) < len(folders):
        given = " ".join(map(str, folders)) or "none"
        raise UserError(f"expected 2 to {MAX_RUNS} runs, each once, got {given}; name their folders")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"expected a file in a folder that exists for --dest, got {path}; give a name as compare.html")
    with expected_shape(*folders):
        runs = _named(folders)
        check_comparable([basis_of(named.run) for named in runs])
        page = render("compare.html", context(runs))
    write_page(path, page)
    return path


def _named(folders: Sequence[Path]) -> list[NamedRun]:
    """Runs by the names of their folders, by their paths where names are shared."""
    short = [run_name(folder) for folder in folders]
    return [
        NamedRun(chr(ord("A") + place), name if short.count(name) == 1 else str(folder), load_run(folder))
        for place, (folder, name) in enumerate(zip(folders, short, strict=True))
    ]


def context(runs: Sequence[NamedRun]) -> dict[str, Any]:
    """Everything the template shows."""
    alike = _same_measures_of_images(runs)
    return {
        "runs": runs,
        "sentence": _sentence(runs),
        "details": _details(runs),
        "figures": [_key_figure(named) for named in runs],
        "accuracy": _accuracy_table(runs),
        "domain_panels": _domain_panels(runs),
        "image_metrics": [_image_table(runs)] if alike else [_image_table([named]) for named in runs],
        "images_alike": alike,
        "plane": _plane(runs) if alike else None,
        "cost": _cost_table(runs),
        "settings": _settings_table(runs),
        "provenance": [(named, command_of(named.run), provenance(named.run)) for named in runs],
    }


def _fields(named: NamedRun) -> dict[str, Score | None]:
    """The run's student on the original domain and over the shifted ones."""
    results = named.run.results
    return {"id": score(results, named.student, "id"), SHIFTED: shifted_score(results, named.student)}


def _ranking(runs: Sequence[NamedRun], where: str) -> list[tuple[Score, NamedRun]]:
    """Runs by the accuracy of their student, the highest first."""
    measured = [(s, named) for named in runs if (s := _fields(named)[where])]
    return sorted(measured, key=lambda pair: -pair[0].mean)


def _verdict(leader: NamedRun, other: NamedRun, where: str) -> DomainComparison | None:
    """The leader's student against the other's, as ``prismkd compare`` does it; None where hits can't be paired."""
    verdicts = compare_hits(other.run.hits(other.student), leader.run.hits(leader.student))
    return verdicts.shifted if where == SHIFTED else verdicts.domains.get(where)


def _sentence(runs: Sequence[NamedRun]) -> str:
    """Whose student is better than all others, where one is."""
    leads: dict[str, list[str]] = {}
    level: list[str] = []
    for where, place in PLACES.items():
        ranking = _ranking(runs, where)
        if len(ranking) < 2:
            continue
        (first, leader), (second, _) = ranking[:2]
        verdicts = [(s, named, _verdict(leader, named, where)) for s, named in ranking[1:]]
        same = [(s, named) for s, named, verdict in verdicts if verdict and not verdict.significant]
        if same:
            students = [f"{named.name} ({named.letter}, {names.percent(s.mean)}%)" for s, named in [ranking[0], *same]]
            level.append(f"no significant difference {place} between {listed(students)}")
            continue
        ahead = f"{names.percent(first.mean)}%, {names.percent(first.mean - second.mean)} points ahead"
        untested = "" if all(verdict for _, _, verdict in verdicts) else ", not tested for chance"
        leads.setdefault(f"{leader.name} ({leader.letter})", []).append(f"{place} ({ahead}{untested})")
    parts = [f"{name} reaches the most {' and '.join(texts)}" for name, texts in leads.items()] + level
    if not parts:
        return "No two of these runs have a student to compare."
    text = "; ".join(parts) + "."
    return text if leads else text[0].upper() + text[1:]


def _details(runs: Sequence[NamedRun]) -> list[str]:
    """Whose student is meant, and how a lead is told from chance."""
    students = {names.method_label(named.student) for named in runs if named.student}
    details = [f"Each run by its {students.pop()} student."] if len(students) == 1 else [
        "Each run by its own student: " + ", ".join(f"{n.letter} {names.method_label(n.student)}" for n in runs) + "."
    ]  # fmt: skip
    alone = [n.letter for n in runs if any(s is not None and s.spread is None for s in _fields(n).values())]
    if alone:
        details.append(f"One seed in {', '.join(alone)}: a point or two may be chance.")
    return [*details, "A lead is tested image by image over the seeds that the runs share, as by prismkd compare."]


def _key_figure(named: NamedRun) -> KeyFigure:
    fields = _fields(named)
    ours, shifted = fields["id"], fields[SHIFTED]
    notes = [f"{names.percent(shifted.mean)}% on shifted domains"] if shifted else []
    teacher = score(named.run.results, "teacher", "id")
    notes += [f"Its teacher {names.percent(teacher.mean)}%"] if teacher else []
    notes += [f"{names.duration(tables.total_seconds(named.run))} in all"] if named.run.metrics.get("timings") else []
    spread = names.uncertainty(ours, names.percent) if ours else ""
    return KeyFigure(
        named.title, names.percent(ours.mean) if ours else "\u2013", "%" if ours else "", spread, notes=tuple(notes)
    )


def _rows(runs: Sequence[NamedRun], chosen: Any) -> tuple[Rows, dict[Any, Head]]:
    """A row for every method of every run, methods together; ``chosen`` says which of a run's methods there are."""
    own = {named.letter: chosen(named.run.results) for named in runs}
    order = list(dict.fromkeys(method for method in methods(r for n in runs for r in n.run.results)))
    pairs = [(named, method) for method in order for named in runs if method in own[named.letter]]
    rows: Rows = {(named.letter, method): (named.run.results, method) for named, method in pairs}
    heads = {(n.letter, m): _head(n, m) for n, m in pairs}
    return rows, heads


def _head(named: NamedRun, method: str) -> Head:
    head = tables.method_head(method, f", {named.letter}")
    return Head(
        head.label, named.name, f"m-run {named.style}" + (" reference" if head.reference else ""), head.reference
    )


def _accuracy_table(runs: Sequence[NamedRun]) -> Table | None:
    rows, heads = _rows(runs, methods)
    caption = "Top-1 accuracy of every run's students, in percent."
    return tables.score_table(caption, "Student from, run", tables.accuracy_columns(rows), heads)


def _image_table(runs: Sequence[NamedRun]) -> Table | None:
    rows, heads = _rows(runs, image_methods)
    caption = "The image sets, measured without any student" + (f": {runs[0].title}." if len(runs) == 1 else ".")
    return tables.score_table(caption, "Images, run", tables.image_columns(rows)[: tables.NUM_CHIEF], heads)


def _domain_panels(runs: Sequence[NamedRun]) -> list[Panel]:
    """Every run's student and teacher on each domain, all on one axis."""
    domains = ["id", *dict.fromkeys(d for named in runs for d in shifted_domains(named.run.results))]
    marks = {domain: _marks(runs, domain) for domain in domains}
    ends = [end for found in marks.values() for m in found for end in (m.value, *(m.interval or ()))]
    if not ends:
        return []
    low, high = max(0.0, min(ends) - 0.03), min(1.0, max(ends) + 0.03)
    titles = {domain: names.domain_label(domain) for domain in domains}
    return [
        Panel(titles[d], figures.dot_figure(f"Top-1 accuracy, {titles[d]}", found, low, high))
        for d, found in marks.items()
        if found
    ]


def _marks(runs: Sequence[NamedRun], domain: str) -> list[Mark]:
    """The runs' students, and their teachers: one where they are the same."""
    students = [(n, n.student, score(n.run.results, n.student, domain)) for n in runs if n.student != "teacher"]
    teachers = [(n, "teacher", score(n.run.results, "teacher", domain)) for n in runs]
    shared = len({s.mean for _, _, s in teachers if s}) == 1 and all(s for _, _, s in teachers)
    found = students + (teachers[:1] if shared else teachers)
    return [
        Mark(
            names.method_label(m) if shared and m == "teacher" else f"{named.letter} {names.method_label(m)}",
            s.mean,
            s.interval,
            _colors(named, m),
        )
        for named, m, s in found
        if s
    ]


def _colors(named: NamedRun, method: str) -> str:
    return names.method_class(method) if method in REFERENCES else named.style


def _plane(runs: Sequence[NamedRun]) -> Markup | None:
    """The path of every run in one plane."""
    points: list[plane.Point] = []
    steps: list[tuple[str, str]] = []
    for named in runs:
        own = plane.points_of(named.run, f"{named.letter} ", named.style)
        points += [p for p in own if not (p.ceiling and any(other.ceiling for other in points))]
        steps += plane.path({p.key for p in own}, f"{named.letter} ")
    return plane.plane_figure(points, steps)


def _same_measures_of_images(runs: Sequence[NamedRun]) -> bool:
    """Whether precision and recall are of one judge's features, neighbors and counts."""
    asked = [(named.run.record.get("config") or {}).get("evaluation") or {} for named in runs]
    return all(all(own.get(key) == asked[0].get(key) for key in MEASURES_OF_IMAGES) for own in asked)


def _cost_table(runs: Sequence[NamedRun]) -> Table | None:
    """Wall-clock time of every stage in every run."""
    timings = {named.letter: tables.timings_of(named.run) for named in runs}
    found = dict.fromkeys(key for own in timings.values() for key in own)
    stages = sorted(found, key=lambda key: tables.place_in_work(key[0]))
    if not stages:
        return None
    columns = [Column("Stage", numeric=False), Column("Method", numeric=False), *(Column(n.title) for n in runs)]
    table = Table("Wall-clock time, the mean over seeds; on its own hardware each.", columns)
    for stage, method in stages:
        cells = [Cell(names.method_label(method) or "\u2013")]
        for named in runs:
            seconds, images = timings[named.letter].get((stage, method), (0.0, 0.0))
            note = f"{images:,.0f} images" if images else ""
            cells.append(Cell(names.duration(seconds), seconds, note) if seconds else Cell("\u2013"))
        table.rows.append(Row(stage[:1].upper() + stage[1:], cells))
    totals = [tables.total_seconds(named.run) for named in runs]
    table.rows.append(Row("All, every seed", [Cell("\u2013"), *(Cell(names.duration(t), t) for t in totals)]))
    return table


def _settings_table(runs: Sequence[NamedRun]) -> Table | None:
    """The settings in which the runs differ, and no others."""
    configs = [named.run.record.get("config") or {} for named in runs]
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
