"""The large numbers at the head of the page."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.records.results import RunResults
from prismkd.records.scores import SHIFTED, Score, difference, score, shifted_domains, shifted_score, subject
from prismkd.report import formats, names
from prismkd.report.margins import Margin
from prismkd.report.names import RIVALS
from prismkd.report.yardstick import yardstick_of

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


def student_figure(
    run: RunResults, where: str, scores: dict[str, Score | None], above: Margins, student: str, rival: str | None
) -> KeyFigure:
    """What the student reaches at a place: its distance to plain prompts as a badge, those to the others as notes.

    Args:
        run: the run.
        where: a key of PLACES.
        scores: everyone's there, by method.
        above: by how much the student is above each other method.
        student: the page's.
        rival: plain prompts, where the run has them.
    """
    ours = scores[student]
    assert ours is not None  # fields_of() keeps only places where the student was measured
    notes = [
        _rival_note(above[method][where], method, theirs)
        for method in ("teacher", "real")
        if method != student and (theirs := scores.get(method)) and where in above[method]
    ]
    change = above[rival].get(where) if rival else None
    if change and rival and (theirs := scores.get(rival)):
        notes.append(f"{formats.percent(theirs.mean)}% with {RIVALS[rival]}")
    prompted = score(run.results, "teacher", where, "prompted")
    if prompted:
        notes.append(f"The teacher sees the prompted class in {formats.percent(prompted.mean)}%")
    share = _gap_closed(scores, student, rival)
    if share and share < 1 and not (change and change.may_be_chance):
        notes.append(f"Closes {100 * share:.0f}% of the gap from plain to real images")
    return KeyFigure(
        _place_label(run, where),
        formats.percent(ours.mean),
        "%",
        formats.uncertainty(ours, formats.percent),
        _margin_text(change) if change else "",
        change.tone if change else "",
        tuple(notes),
    )


def _place_label(run: RunResults, where: str) -> str:
    shifted = shifted_domains(run.results)
    if where == SHIFTED:
        return names.domain_label(shifted[0]) if len(shifted) == 1 else f"Mean of {len(shifted)} shifted domains"
    label = names.domain_label(where)
    return label if yardstick_of(run.results).is_accuracy else f"Agrees with its teacher, {label[0].lower()}{label[1:]}"


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


def agreement_figure(run: RunResults, student: str, rival: str | None) -> list[KeyFigure]:
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


def image_figures(run: RunResults) -> list[KeyFigure]:
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
