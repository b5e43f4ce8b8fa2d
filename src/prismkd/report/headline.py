"""The first sentences of the page: how the student stands, computed and without flattery."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.records.results import RunResults
from prismkd.records.scores import (
    SHIFTED,
    Result,
    Score,
    best,
    difference,
    methods,
    score,
    shifted_domains,
    shifted_score,
    subject,
)
from prismkd.report import formats, names
from prismkd.report.key_figures import KeyFigure, Margins, accuracy_figure, agreement_figure, image_figures
from prismkd.report.margins import margins
from prismkd.report.names import PLACES, RIVALS

Fields = dict[str, dict[str, Score | None]]  # a key of PLACES -> method -> score


@dataclass(frozen=True)
class Headline:
    """The sentence, its qualification, and the key figures."""

    sentence: str
    details: list[str]
    figures: list[KeyFigure]


def headline(run: RunResults) -> Headline:
    """PRISM against its teacher, plain prompts and real images where the run has them, else the method that it has."""
    fields = accuracy_fields(run)
    if not fields:
        return Headline("Images are ready; no student has been tested yet.", [], image_figures(run))
    student, rival = subject(_tested(run))
    above = {method: margins(run, student, method) for method in methods(run.results) if method != student}
    details = [
        *_comparisons(fields, student),
        *_chance(fields, above),
        *_leaders(fields, above, student),
        _reliability(fields, student, rival),
    ]
    figures = [accuracy_figure(run, where, scores, above, student, rival) for where, scores in fields.items()]
    return Headline(_sentence(fields, student), details, [*figures, *agreement_figure(run, student, rival)])


def accuracy_fields(run: RunResults) -> Fields:
    """Top-1 of every method on the original domain and over the shifted ones, where the page's student was tested."""
    tested = methods(_tested(run))
    student, _ = subject(_tested(run))
    fields: Fields = {"id": {m: score(run.results, m, "id") for m in tested}}
    if shifted_domains(run.results):
        fields[SHIFTED] = {m: shifted_score(run.results, m) for m in tested}
    return {where: scores for where, scores in fields.items() if scores.get(student)}


def _tested(run: RunResults) -> list[Result]:
    """Rows of methods with an accuracy."""
    measured = {m for m in methods(run.results) if score(run.results, m, "id") or shifted_score(run.results, m)}
    return [result for result in run.results if result.method in measured]


def _sentence(fields: Fields, student: str) -> str:
    """What the student reaches, and what its teacher does."""
    reached = [f"{formats.percent(s.mean)}% {PLACES[where]}" for where in fields if (s := fields[where][student])]
    name = {"teacher": "The teacher", "real": "The student of real images"}
    sentence = f"{name.get(student, f'The {names.method_label(student)} student')} reaches {' and '.join(reached)}"
    teacher = [f"{formats.percent(s.mean)}%" for scores in fields.values() if (s := scores.get("teacher"))]
    if student == "teacher" or not teacher:
        return sentence + "."
    return f"{sentence}; its teacher reaches {' and '.join(teacher)}."


def _comparisons(fields: Fields, student: str) -> list[str]:
    """By how many points the student stands above or below each rival: one sentence."""
    parts = []
    for rival, called in RIVALS.items():
        changes = [d for scores in fields.values() if (d := _change(scores, student, rival))]
        if not changes:
            continue
        sizes = [formats.percent(abs(change.mean)) for change in changes]
        sides = ["above" if change.mean >= 0 else "below" for change in changes]
        if len(set(sides)) == 1:
            parts.append(f"{' and '.join(sizes)} points {sides[0]} {called}")
        else:
            parts.append(f"{sizes[0]} points {sides[0]} and {sizes[1]} points {sides[1]} {called}")
    return [f"That is {'; '.join(parts)}."] if parts else []


def _chance(fields: Fields, above: Margins) -> list[str]:
    """Where the student can't be told apart from a rival: one sentence."""
    parts = []
    for rival, called in RIVALS.items():
        by_place = above.get(rival, {})
        level = [PLACES[where] for where in fields if where in by_place and by_place[where].may_be_chance]
        parts += [f"from {called} {' and '.join(level)}"] if level else []
    return [f"No significant difference {'; '.join(parts)}."] if parts else []


def _leaders(fields: Fields, above: Margins, student: str) -> list[str]:
    """Which other data-free student has the highest mean, where the headline's has not."""
    leaders = []
    for where, scores in fields.items():
        # Of several with the same mean the page's own student
        winner = min(best(scores), default=student, key=lambda method: (method != student, method))
        if winner != student and (leading := scores[winner]):
            margin = above[winner].get(where)
            level = " (no significant difference)" if margin and margin.may_be_chance else ""
            leaders.append(f"{names.method_label(winner)} with {formats.percent(leading.mean)}% {PLACES[where]}{level}")
    return [f"The best without real data: {' and '.join(leaders)}."] if leaders else []


def _reliability(fields: Fields, student: str, rival: str | None) -> str:
    seeds = next(len(s.by_seed) for scores in fields.values() if (s := scores[student]))
    if seeds == 1:  # the interval is over images then, and knows nothing of other trainings
        return "One seed: differences of a point or two may be chance. Ranges are 95% intervals."
    text = f"Means over {seeds} seeds, \u00b1 is their standard deviation, ranges are 95% intervals"
    changes = {where: d for where, scores in fields.items() if (d := _change(scores, student, rival))}
    wins = [
        f"{sum(value > 0 for value in change.by_seed.values())} of {len(change.by_seed)} seeds {PLACES[where]}"
        for where, change in changes.items()
    ]
    return f"{text}; ahead of plain prompts with {' and '.join(wins)}." if wins else f"{text}."


def _change(scores: dict[str, Score | None], student: str, rival: str | None) -> Score | None:
    ours, theirs = scores.get(student), scores.get(rival or "")
    return difference(ours, theirs) if ours and theirs and student != rival else None
