"""The first sentence and the key figures: how the student stands, computed and without flattery."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.records.results import RunResults
from prismkd.records.scores import (
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
from prismkd.report.margins import SHIFTED, Margin, margins

PLACES = {"id": "on the original domain", SHIFTED: "on shifted domains"}
RIVALS = {"plain": "plain prompts", "real": "the same student of real images"}
Fields = dict[str, dict[str, Score | None]]  # a key of PLACES -> method -> score
Margins = dict[str, dict[str, Margin]]  # rival -> domain or SHIFTED -> by how much the page's student is above it


@dataclass(frozen=True)
class KeyFigure:
    """A large number with its spread, its difference to the rival, and what to compare it with.

    ``tone`` colors the difference: "ahead" or "behind" where one of the two is better, "" where it may be chance.
    """

    label: str
    value: str
    unit: str
    spread: str = ""
    change: str = ""
    tone: str = ""
    notes: tuple[str, ...] = ()


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
        return Headline("Images are ready; no student has been tested yet.", [], _image_figures(run))
    student, rival = subject(_tested(run))
    above = {method: margins(run, student, method) for method in methods(run.results) if method != student}
    details = [
        *_comparisons(fields, student),
        *_chance(fields, above),
        *_leaders(fields, above, student),
        _reliability(fields, student, rival),
    ]
    figures = [_accuracy_figure(run, where, scores, above, student, rival) for where, scores in fields.items()]
    return Headline(_sentence(fields, student), details, [*figures, *_agreement_figure(run, student, rival)])


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
        level = [PLACES[where] for where in fields if _is_level(above.get(rival, {}).get(where))]
        parts += [f"from {called} {' and '.join(level)}"] if level else []
    return [f"No significant difference {'; '.join(parts)}."] if parts else []


def _is_level(margin: Margin | None) -> bool:
    """Whether two students were compared image by image and neither is better."""
    return margin is not None and margin.verdict is not None and not margin.significant


def _leaders(fields: Fields, above: Margins, student: str) -> list[str]:
    """Which other data-free student has the highest mean, where the headline's has not."""
    leaders = []
    for where, scores in fields.items():
        # Of several with the same mean the page's own student
        winner = min(best(scores), default=student, key=lambda method: (method != student, method))
        if winner != student and (leading := scores[winner]):
            level = ", no significant difference" if _is_level(above[winner].get(where)) else ""
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


def _accuracy_figure(
    run: RunResults, where: str, scores: dict[str, Score | None], above: Margins, student: str, rival: str | None
) -> KeyFigure:
    ours = scores[student]
    assert ours is not None  # accuracy_fields() keeps only fields where the student was measured
    notes = [
        _rival_note(above[method][where], method, theirs)
        for method in ("teacher", "real")
        if method != student and (theirs := scores.get(method)) and where in above[method]
    ]
    change = above[rival].get(where) if rival else None
    if change and rival and (theirs := scores.get(rival)):
        notes.append(f"{formats.percent(theirs.mean)}% with {RIVALS[rival]}")
    if share := _gap_closed(scores, student, rival):
        notes.append(f"Closes {100 * share:.0f}% of the gap from plain to real images" if share < 1 else "")
    return KeyFigure(
        _place_label(run, where),
        formats.percent(ours.mean),
        "%",
        formats.uncertainty(ours, formats.percent),
        _margin_text(change) if change else "",
        change.tone if change else "",
        tuple(filter(None, notes)),
    )


def _place_label(run: RunResults, where: str) -> str:
    shifted = shifted_domains(run.results)
    if where == SHIFTED:
        return names.domain_label(shifted[0]) if len(shifted) == 1 else f"Mean of {len(shifted)} shifted domains"
    return names.domain_label(where)


def _margin_text(margin: Margin) -> str:
    """As "+8.6 vs plain, \u22121.2 to +18.5": the badge shows how sure the difference is."""
    text = f"{formats.signed(100 * margin.mean, 1)} vs plain"
    if margin.interval is None:
        return text
    return f"{text}, {formats.range_text(margin.interval, lambda value: formats.signed(100 * value, 1))}"


def _rival_note(margin: Margin, rival: str, theirs: Score) -> str:
    """As "5.6 below its teacher (3.3 to 7.9), 88.7%"; the range is of the difference."""
    called = {"teacher": "its teacher", "real": "real images"}[rival]
    if abs(margin.mean) < 0.0005:
        return f"Level with {called}, {formats.percent(theirs.mean)}%"
    text = f"{formats.percent(abs(margin.mean))} {'above' if margin.mean > 0 else 'below'} {called}"
    if margin.interval:
        low, high = sorted(bound if margin.mean > 0 else -bound for bound in margin.interval)
        text += f" ({formats.range_text((low, high), formats.percent)})"
    return f"{text}, {formats.percent(theirs.mean)}%"


def _change_text(change: Score | None, factor: float, decimals: int) -> str:
    if change is None:
        return ""
    text = formats.signed(factor * change.mean, decimals)
    if change.spread is not None:
        text += f" \u00b1\u2009{formats.number(factor * change.spread, decimals)}"
    return f"{text} vs plain"


def _gap_closed(scores: dict[str, Score | None], student: str, rival: str | None) -> float | None:
    """(student - rival) / (real - rival), where real is ahead of the rival by more than a point: else it is noise."""
    ours, theirs, real = scores.get(student), scores.get(rival or ""), scores.get("real")
    if not (ours and theirs and real) or real.mean - theirs.mean < 0.01 or ours.mean <= theirs.mean:
        return None
    return (ours.mean - theirs.mean) / (real.mean - theirs.mean)


def _agreement_figure(run: RunResults, student: str, rival: str | None) -> list[KeyFigure]:
    """How often the student says what its teacher says."""
    ours = score(run.results, student, "id", "agreement")
    if ours is None or student == "teacher":
        return []
    theirs = score(run.results, rival, "id", "agreement") if rival else None
    change = difference(ours, theirs) if theirs else None
    shifted = shifted_score(run.results, student, "agreement")
    return [
        KeyFigure(
            "Says what its teacher says",
            formats.percent(ours.mean),
            "%",
            formats.uncertainty(ours, formats.percent),
            _change_text(change, 100, 1),
            notes=("of the original domain's test images",)
            + ((f"{formats.percent(shifted.mean)}% on shifted domains",) if shifted else ()),
        )
    ]


def _image_figures(run: RunResults) -> list[KeyFigure]:
    """Precision and recall, where there is no student to speak of."""
    method, rival = subject(run.results, "images")
    figures = []
    for metric in ("precision", "recall"):
        ours = score(run.results, method, "images", metric)
        theirs = score(run.results, rival, "images", metric) if rival else None
        if ours is not None:
            change = difference(ours, theirs) if theirs else None
            spread = formats.uncertainty(ours, lambda value: formats.number(value, 2))
            label, value = f"{metric.capitalize()} of the images", formats.number(ours.mean, 2)
            figures.append(KeyFigure(label, value, "", spread, _change_text(change, 1, 2)))
    return figures
