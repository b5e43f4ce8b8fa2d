"""Whose student stands highest among several runs, where one does: the head of the side-by-side page."""

from __future__ import annotations

from collections.abc import Sequence

from prismkd.records.comparison import listed
from prismkd.records.scores import SHIFTED, Score, score, shifted_score
from prismkd.records.verdict import DomainComparison, compare_hits
from prismkd.report import formats, names, tables
from prismkd.report.key_figures import KeyFigure
from prismkd.report.named_run import NamedRun
from prismkd.report.names import PLACES


def sentence(runs: Sequence[NamedRun]) -> str:
    """Whose student is better than all others', where one is; who can't be told apart, where none is.

    Where hits can't be paired the higher mean leads, and the sentence says "not tested for chance".
    """
    parts: dict[str, list[str]] = {}  # who leads -> where
    for where, place in PLACES.items():
        ranking = _ranking(runs, where)
        if len(ranking) < 2:
            continue
        (first, leader), (second, _) = ranking[:2]
        verdicts = [_verdict(leader, named, where) for _, named in ranking[1:]]
        # Whoever the first isn't better than stands beside it, whatever the means say
        equals = [entry for entry, verdict in zip(ranking[1:], verdicts, strict=True) if not _leads(verdict)]
        if equals:
            students = [f"{n.name} ({n.letter}, {formats.percent(s.mean)}%)" for s, n in [ranking[0], *equals]]
            parts[f"no significant difference {place} between"] = [listed(students)]
        else:
            ahead = f"{formats.percent(first.mean)}%, {formats.percent(first.mean - second.mean)} points ahead"
            untested = ", not tested for chance" if None in verdicts else ""
            lead = f"{leader.name} ({leader.letter}) reaches the most"
            parts.setdefault(lead, []).append(f"{place} ({ahead}{untested})")
    if not parts:
        return "No two of these runs have a student to compare."
    text = "; ".join(f"{head} {' and '.join(tails)}" for head, tails in parts.items()) + "."
    return text[0].upper() + text[1:] if text.startswith("no significant") else text


def _ranking(runs: Sequence[NamedRun], where: str) -> list[tuple[Score, NamedRun]]:
    """Runs by the accuracy of their student, the highest first."""
    measured = [(s, named) for named in runs if (s := _scores(named)[where])]
    return sorted(measured, key=lambda pair: -pair[0].mean)


def _scores(named: NamedRun) -> dict[str, Score | None]:
    """The run's student on the original domain and over the shifted ones."""
    results = named.run.results
    return {"id": score(results, named.student, "id"), SHIFTED: shifted_score(results, named.student)}


def _verdict(leader: NamedRun, other: NamedRun, where: str) -> DomainComparison | None:
    """The leader's student against the other's, as ``prismkd compare`` does it; None where hits can't be paired."""
    verdicts = compare_hits(other.run.hits(other.student), leader.run.hits(leader.student))
    return verdicts.shifted if where == SHIFTED else verdicts.domains.get(where)


def _leads(verdict: DomainComparison | None) -> bool:
    """Whether the leader by the mean is better; where nothing can be tested (None), the mean counts untested."""
    return verdict is None or (verdict.significant and verdict.difference > 0)


def details(runs: Sequence[NamedRun]) -> list[str]:
    """Whose student is meant, and how a lead is told from chance."""
    students = {names.method_label(named.student) for named in runs if named.student}
    sentences = [f"Each run by its {students.pop()} student."] if len(students) == 1 else [
        "Each run by its own student: " + ", ".join(f"{n.letter} {names.method_label(n.student)}" for n in runs) + "."
    ]  # fmt: skip
    alone = [n.letter for n in runs if any(s is not None and s.spread is None for s in _scores(n).values())]
    if alone:
        sentences.append(f"One seed in {', '.join(alone)}: a point or two may be chance.")
    return [*sentences, "A lead is tested image by image over the seeds that the runs share, as by prismkd compare."]


def key_figure(named: NamedRun) -> KeyFigure:
    """The student's top-1 on the original domain, with what to compare it with."""
    scores = _scores(named)
    ours, shifted = scores["id"], scores[SHIFTED]
    notes = [f"{formats.percent(shifted.mean)}% on shifted domains"] if shifted else []
    teacher = score(named.run.results, "teacher", "id")
    notes += [f"Its teacher {formats.percent(teacher.mean)}%"] if teacher else []
    notes += [f"{formats.duration(tables.total_seconds(named.run))} in all"] if named.run.metrics.get("timings") else []
    spread = formats.uncertainty(ours, formats.percent) if ours else ""
    return KeyFigure(
        named.title, formats.percent(ours.mean) if ours else "\u2013", "%" if ours else "", spread, notes=tuple(notes)
    )
