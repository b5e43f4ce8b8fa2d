"""The first sentence and the key figures: how the student stands, computed and without flattery."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.report import names
from prismkd.report.run_directory import Run
from prismkd.report.scores import REFERENCES, Score, best, difference, methods, score, shifted_domains, shifted_score


@dataclass(frozen=True)
class KeyFigure:
    """A large number with its spread, its difference to the rival, and what to compare it with."""

    label: str
    value: str
    unit: str
    spread: str = ""
    change: str = ""
    ahead: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Headline:
    """The sentence, its qualification, and the key figures."""

    sentence: str
    details: list[str]
    figures: list[KeyFigure]


def headline(run: Run) -> Headline:
    """PRISM against plain prompts where the run has both, else the method that it has."""
    measured = [m for m in methods(run.results) if score(run.results, m, "id") or shifted_score(run.results, m)]
    own = [m for m in measured if m not in REFERENCES]
    if not measured:
        return Headline("Images are ready; no student has been tested yet.", [], _image_figures(run, "prism"))
    student = "prism" if "prism" in own else (own or measured)[0]
    rival = "plain" if "plain" in own and student != "plain" else None
    fields = {"original": {m: score(run.results, m, "id") for m in measured}}
    if shifted_domains(run.results):
        fields["shifted"] = {m: shifted_score(run.results, m) for m in measured}
    fields = {where: scores for where, scores in fields.items() if scores[student]}
    return Headline(
        _sentence(fields, student, rival),
        [*_leaders(fields, student), _reliability(fields, student, rival)],
        [*(_accuracy_figure(run, w, s, student, rival) for w, s in fields.items()), *_image_figures(run, student)],
    )


PLACES = {"original": "on the original domain", "shifted": "on shifted domains"}
Fields = dict[str, dict[str, Score | None]]  # "original", "shifted" -> method -> score


def _sentence(fields: Fields, student: str, rival: str | None) -> str:
    """One sentence: what the student reaches, and by how many points it stands above or below plain prompts."""
    reached = [f"{names.percent(s.mean)}% {PLACES[where]}" for where in fields if (s := fields[where][student])]
    subject = {"teacher": "The teacher", "real": "The student of real images"}.get(
        student, f"The {names.method_label(student)} student"
    )
    sentence = f"{subject} reaches {' and '.join(reached)}"
    changes = [d for scores in fields.values() if (d := _change(scores, student, rival))]
    if not changes:
        return sentence + "."
    sizes = [names.percent(abs(change.mean)) for change in changes]
    sides = ["above" if change.mean >= 0 else "below" for change in changes]
    if len(set(sides)) == 1:
        return f"{sentence}: {' and '.join(sizes)} points {sides[0]} plain prompts."
    return f"{sentence}: {sizes[0]} points {sides[0]} and {sizes[1]} points {sides[1]} plain prompts."


def _leaders(fields: Fields, student: str) -> list[str]:
    """Which other data-free student is the best one, where the headline's is not."""
    leaders = []
    for where, scores in fields.items():
        winner = min(best(scores), default=student, key=lambda method: (method != student, method))
        if winner != student and (leading := scores[winner]):
            leaders.append(f"{names.method_label(winner)} with {names.percent(leading.mean)}% {PLACES[where]}")
    return [f"The best without real data: {' and '.join(leaders)}."] if leaders else []


def _reliability(fields: Fields, student: str, rival: str | None) -> str:
    seeds = next(len(s.by_seed) for scores in fields.values() if (s := scores[student]))
    if seeds == 1:
        return "One seed: differences of a point or two may be chance."
    text = f"Means over {seeds} seeds, \u00b1 is their standard deviation"
    changes = {where: d for where, scores in fields.items() if (d := _change(scores, student, rival))}
    wins = [
        f"in {sum(value > 0 for value in change.by_seed.values())} of {len(change.by_seed)} {PLACES[where]}"
        for where, change in changes.items()
    ]
    return f"{text}; ahead of plain prompts {' and '.join(wins)}." if wins else f"{text}."


def _change(scores: dict[str, Score | None], student: str, rival: str | None) -> Score | None:
    ours, theirs = scores.get(student), scores.get(rival or "")
    return difference(ours, theirs) if ours and theirs else None


def _accuracy_figure(
    run: Run, where: str, scores: dict[str, Score | None], student: str, rival: str | None
) -> KeyFigure:
    ours, change = scores[student], _change(scores, student, rival)
    assert ours is not None  # headline() keeps only fields where the student was measured
    shifted = shifted_domains(run.results)
    label = "Original domain" if where == "original" else f"Mean of {len(shifted)} shifted domains"
    notes = [
        f"{names.method_label(m)} {names.percent(s.mean)}%" for m in REFERENCES if m != student and (s := scores.get(m))
    ]
    if share := _gap_closed(scores, student, rival):
        notes.append(f"Closes {100 * share:.0f}% of the gap to real images" if share < 1 else "Ahead of real images")
    return KeyFigure(
        label if len(shifted) != 1 or where == "original" else names.domain_label(shifted[0]),
        names.percent(ours.mean),
        "%",
        "" if ours.spread is None else f"\u00b1\u2009{names.percent(ours.spread)}",
        f"{names.signed(100 * change.mean, 1)} vs plain" if change else "",
        bool(change and change.mean > 0),
        tuple(notes),
    )


def _gap_closed(scores: dict[str, Score | None], student: str, rival: str | None) -> float | None:
    """(student - rival) / (real - rival), where real is ahead of the rival by more than a point."""
    ours, theirs, real = scores.get(student), scores.get(rival or ""), scores.get("real")
    if not (ours and theirs and real) or real.mean - theirs.mean < 0.01 or ours.mean <= theirs.mean:
        return None
    return (ours.mean - theirs.mean) / (real.mean - theirs.mean)


def _image_figures(run: Run, student: str) -> list[KeyFigure]:
    figures = []
    for metric in ("precision", "recall"):
        ours, plain, real = (score(run.results, m, "images", metric) for m in (student, "plain", "real"))
        if ours is None:
            continue
        change = difference(ours, plain).mean if plain and student != "plain" else None
        figures.append(
            KeyFigure(
                f"{metric.capitalize()} of the images",
                names.number(ours.mean, 2),
                "",
                "" if ours.spread is None else f"\u00b1\u2009{names.number(ours.spread, 2)}",
                "" if change is None else f"{names.signed(change, 2)} vs plain",
                change is not None and change > 0,
                (f"Real against real {names.number(real.mean, 2)}",) if real else (),
            )
        )
    return figures
