"""The first sentences of the page: how the student stands, computed and without flattery."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.records.comparison import listed
from prismkd.records.results import RunResults
from prismkd.records.scores import Result, Score, best, difference, methods, subject
from prismkd.records.shapes import TrainingLog
from prismkd.report import formats, names
from prismkd.report.key_figures import KeyFigure, Margins, agreement_figure, image_figures, student_figure
from prismkd.report.margins import Margin, margins
from prismkd.report.names import PLACES, RIVALS
from prismkd.report.yardstick import Yardstick, yardstick_of

Fields = dict[str, dict[str, Score | None]]  # a key of PLACES -> method -> score


@dataclass(frozen=True)
class Headline:
    """The sentence, its qualification, and the key figures."""

    sentence: str
    details: list[str]
    figures: list[KeyFigure]


def headline(run: RunResults) -> Headline:
    """PRISM against its teacher, plain prompts and real images where the run has them, else the method that it has."""
    yardstick = yardstick_of(run.results)
    fields = fields_of(run, yardstick)
    if not fields:
        sentence = "Images are ready; no student has been tested yet."
        if any(run.documents(method, "student/log.json", TrainingLog) for method in run.folders):
            sentence = "Students are ready; nothing was measured of them."
        return Headline(sentence, [], image_figures(run))
    student, rival = subject(_tested(run, yardstick))
    above = {method: margins(run, student, method) for method in methods(run.results) if method != student}
    details = [
        *_no_test(yardstick),
        *_comparisons(fields, above),
        *_leaders(fields, above, student),
        _reliability(fields, student, rival),
    ]
    figures = [student_figure(run, where, scores, above, student, rival) for where, scores in fields.items()]
    return Headline(_sentence(fields, student, yardstick), details, [*figures, *agreement_figure(run, student, rival)])


def fields_of(run: RunResults, yardstick: Yardstick) -> Fields:
    """Every method's scores at each place that the page begins with, where the page's student was tested."""
    tested = _tested(run, yardstick)
    everyone, (student, _) = methods(tested), subject(tested)
    fields: Fields = {
        where: {method: yardstick.of(run.results, method, where) for method in everyone} for where in yardstick.places
    }
    return {where: scores for where, scores in fields.items() if scores.get(student)}


def _tested(run: RunResults, yardstick: Yardstick) -> list[Result]:
    """Rows of methods with a student that was measured, or of the teacher."""
    measured = {m for m in methods(run.results) if any(yardstick.of(run.results, m, w) for w in yardstick.places)}
    return [result for result in run.results if result.method in measured]


def _sentence(fields: Fields, student: str, yardstick: Yardstick) -> str:
    """What the student reaches, and what its teacher does."""
    called = {"teacher": "The teacher", "real": "The student of real images"}
    name = called.get(student, f"The {names.method_label(student)} student")
    shares = {where: formats.percent(s.mean) for where in fields if (s := fields[where][student])}
    if not yardstick.is_accuracy:
        parts = [f"{share}% of {PLACES[where].removeprefix('on ')}" for where, share in shares.items()]
        return f"{name} says what its teacher says on {' and '.join(parts)}."
    sentence = f"{name} reaches {' and '.join(f'{share}% {PLACES[where]}' for where, share in shares.items())}"
    teacher = [f"{formats.percent(s.mean)}%" for scores in fields.values() if (s := scores.get("teacher"))]
    if student == "teacher" or not teacher:
        return sentence + "."
    return f"{sentence}; its teacher reaches {' and '.join(teacher)}."


def _no_test(yardstick: Yardstick) -> list[str]:
    """What an agreement is and is not, where there is nothing else."""
    if yardstick.is_accuracy:
        return []
    return [
        "No test images were given: this is agreement with the teacher on synthetic images that no student learned "
        "from, not accuracy. Where the teacher errs, a student that agrees errs too."
    ]


def _comparisons(fields: Fields, above: Margins) -> list[str]:
    """How the student stands to each rival: points where it is better or worse, and where neither can be said."""
    surely, level, untested = list[str](), list[str](), list[str]()
    for rival, called in RIVALS.items():
        margin = {where: m for where in fields if (m := above.get(rival, {}).get(where))}
        surely += _points({where: m for where, m in margin.items() if m.significant}, called, len(margin))
        chance = [PLACES[where] for where, m in margin.items() if m.may_be_chance]
        level += [f"from {called} {' and '.join(chance)}"] if chance else []
        untested += _points({where: m for where, m in margin.items() if m.verdict is None}, called, len(margin))
    return [
        *([f"That is {'; '.join(surely)}."] if surely else []),
        *([f"No significant difference {'; '.join(level)}."] if level else []),
        *([f"The mean is {'; '.join(untested)}, not tested for chance."] if untested else []),
    ]


def _points(margin: dict[str, Margin], called: str, num_places: int) -> list[str]:
    """As "12.2 and 9.0 points above plain prompts"; places are named where not all are meant, or they differ."""
    if not margin:
        return []
    sizes = [formats.percent(abs(m.mean)) for m in margin.values()]
    sides = ["above" if m.mean >= 0 else "below" for m in margin.values()]
    if len(set(sides)) > 1:
        return [f"{listed([f'{size} points {side}' for size, side in zip(sizes, sides, strict=True)])} {called}"]
    where = "" if len(margin) == num_places else f" {' and '.join(PLACES[place] for place in margin)}"
    return [f"{' and '.join(sizes)} points {sides[0]} {called}{where}"]


def _leaders(fields: Fields, above: Margins, student: str) -> list[str]:
    """Which other data-free student has the highest mean, where the headline's has not."""
    leaders = []
    for where, scores in fields.items():
        # Of several with the same mean the page's own student
        winner = min(best(scores), default=student, key=lambda method: (method != student, method))
        if winner != student and (leading := scores[winner]):
            margin = above[winner].get(where)
            level = "" if margin and margin.significant else " (no significant difference)"
            level = " (not tested for chance)" if margin is None or margin.verdict is None else level
            leaders.append(f"{names.method_label(winner)} with {formats.percent(leading.mean)}% {PLACES[where]}{level}")
    return [f"The highest mean without real data: {' and '.join(leaders)}."] if leaders else []


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
    return f"{text}; the higher mean than plain prompts in {' and '.join(wins)}." if wins else f"{text}."


def _change(scores: dict[str, Score | None], student: str, rival: str | None) -> Score | None:
    ours, theirs = scores.get(student), scores.get(rival or "")
    return difference(ours, theirs) if ours and theirs and student != rival else None
