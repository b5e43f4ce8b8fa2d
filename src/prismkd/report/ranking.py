"""Whose student stands highest among several runs, where one does: the head of the side-by-side page."""

from __future__ import annotations

from collections.abc import Sequence

from prismkd.records.comparison import listed
from prismkd.records.scores import Score, score
from prismkd.records.verdict import DomainComparison
from prismkd.report import formats, names, tables
from prismkd.report.key_figures import KeyFigure
from prismkd.report.margins import verdicts_of
from prismkd.report.named_run import NamedRun
from prismkd.report.names import PLACES
from prismkd.report.yardstick import Yardstick


def sentence(runs: Sequence[NamedRun], yardstick: Yardstick) -> str:
    """Whose student is better than all others', where one is; who can't be told apart, where none is.

    Where hits can't be paired, nobody reaches the most: the means are named, as not tested for chance.
    """
    parts: dict[str, list[str]] = {}  # who leads -> where
    for where in yardstick.places:
        ranking = _ranking(runs, yardstick, where)
        if len(ranking) < 2:
            continue
        (first, leader), (second, _) = ranking[:2]
        verdicts = [_verdict(leader, named, where) for _, named in ranking[1:]]
        # Whoever the first isn't better than stands beside it, whatever the means say
        equals = [entry for entry, verdict in zip(ranking[1:], verdicts, strict=True) if not _leads(verdict)]
        ahead = f"{formats.percent(first.mean)}%, {formats.percent(first.mean - second.mean)} points ahead"
        if equals:
            students = [f"{n.name} ({n.letter}, {formats.percent(s.mean)}%)" for s, n in [ranking[0], *equals]]
            parts[f"no significant difference {PLACES[where]} between"] = [listed(students)]
        elif None in verdicts:
            lead = f"{leader.name} ({leader.letter}) has the higher mean"
            parts.setdefault(lead, []).append(f"{PLACES[where]} ({ahead}, not tested for chance)")
        else:
            lead = f"{leader.name} ({leader.letter}) {yardstick.most}"
            parts.setdefault(lead, []).append(f"{PLACES[where]} ({ahead})")
    if not parts:
        return "No two of these runs have a student to compare."
    text = "; ".join(f"{head} {' and '.join(tails)}" for head, tails in parts.items()) + "."
    return text[0].upper() + text[1:] if text.startswith("no significant") else text


def _ranking(runs: Sequence[NamedRun], yardstick: Yardstick, where: str) -> list[tuple[Score, NamedRun]]:
    """Runs by what their student reaches, the highest first."""
    measured = [(s, named) for named in runs if (s := yardstick.of(named.run.results, named.student, where))]
    return sorted(measured, key=lambda pair: -pair[0].mean)


def _verdict(leader: NamedRun, other: NamedRun, where: str) -> DomainComparison | None:
    """The leader's student against the other's, as ``prismkd compare`` does it; None where hits can't be paired."""
    return verdicts_of((leader.run, leader.student), (other.run, other.student)).get(where)


def _leads(verdict: DomainComparison | None) -> bool:
    """Whether the leader by the mean is better; where nothing can be tested (None), it stands alone, untested."""
    return verdict is None or (verdict.significant and verdict.difference > 0)


def details(runs: Sequence[NamedRun], yardstick: Yardstick) -> list[str]:
    """Whose student is meant, and how a lead is told from chance."""
    students = {names.method_label(named.student) for named in runs if named.student}
    sentences = [f"Each run by its {students.pop()} student."] if len(students) == 1 else [
        "Each run by its own student: " + ", ".join(f"{n.letter} {names.method_label(n.student)}" for n in runs) + "."
    ]  # fmt: skip
    if not yardstick.is_accuracy:
        sentences.append("These runs had no test images: this is agreement with the teacher, not accuracy.")
    scores = {n.letter: [yardstick.of(n.run.results, n.student, where) for where in yardstick.places] for n in runs}
    alone = [letter for letter, found in scores.items() if any(s is not None and s.spread is None for s in found)]
    if alone:
        sentences.append(f"One seed in {', '.join(alone)}: a point or two may be chance.")
    return [*sentences, "A lead is tested image by image over the seeds that the runs share, as by prismkd compare."]


def key_figure(named: NamedRun, yardstick: Yardstick) -> KeyFigure:
    """What the student reaches at the first place, with what to compare it with."""
    results = named.run.results
    ours, *others = (yardstick.of(results, named.student, where) for where in yardstick.places)
    notes = [] if yardstick.is_accuracy else [PLACES[yardstick.places[0]]]
    notes += [
        f"{formats.percent(other.mean)}% {PLACES[where]}"
        for where, other in zip(yardstick.places[1:], others, strict=True)
        if other
    ]
    teacher = score(results, "teacher", "id")
    notes += [f"Its teacher {formats.percent(teacher.mean)}%"] if teacher else []
    notes += [f"{formats.duration(tables.total_seconds(named.run))} in all"] if named.run.metrics.get("timings") else []
    spread = formats.uncertainty(ours, formats.percent) if ours else ""
    return KeyFigure(
        named.title, formats.percent(ours.mean) if ours else "\u2013", "%" if ours else "", spread, notes=tuple(notes)
    )
