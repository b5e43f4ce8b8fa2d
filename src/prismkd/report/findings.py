"""Where the student falls short, and what was measured of its images: the second thing a person asks."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.records.results import RunResults
from prismkd.records.scores import ceiling_of, score, subject
from prismkd.report import formats, names
from prismkd.report.confusion import Confusion, main_confusion
from prismkd.report.margins import Margin, margins
from prismkd.report.names import IMAGE_METRICS
from prismkd.report.table import Cell, Column, Row, Table
from prismkd.report.tables import class_name
from prismkd.report.yardstick import yardstick_of

MAX_DOMAINS, MAX_CLASSES, MAX_NAMED = 8, 5, 12
REASONS = ("precision", "recall", "coverage", "vendi", "teacher_agreement", "judge_top1")


@dataclass(frozen=True)
class Shortfalls:
    """The student's worst domains and classes; ``vanished`` says which classes it never gives."""

    domains: Table | None
    classes: Table | None
    vanished: str


@dataclass(frozen=True)
class Reasons:
    """The image set beside plain prompts' and the ceiling; ``notes`` say how to read it."""

    table: Table
    notes: list[str]


def shortfalls(run: RunResults) -> Shortfalls | None:
    """Where the page's student is not good; None where nothing of it was tested."""
    domains = _domain_table(run)
    # Nobody knows the true classes of synthetic images: there it is the teacher's
    confusion = main_confusion(run, "truth" if yardstick_of(run.results).is_accuracy else "teacher")
    if confusion is None:
        return Shortfalls(domains, None, "") if domains else None
    return Shortfalls(domains, _class_table(run, confusion), _vanished(run, confusion))


def _domain_table(run: RunResults) -> Table | None:
    """Domains, those furthest behind the teacher first; without a teacher those with the lowest accuracy."""
    yardstick, (student, rival) = yardstick_of(run.results), subject(run.results)
    tested = {d: s for d in yardstick.domains if (s := yardstick.of(run.results, student, d))}
    others = [
        method
        for method in ("teacher", rival, "real")
        if method and method != student and any(yardstick.of(run.results, method, domain) for domain in tested)
    ]
    above = [margins(run, student, method) for method in others]
    rows: list[tuple[float, Row]] = []
    interval = ""
    for domain, ours in tested.items():
        changes = [by_domain.get(domain) for by_domain in above]
        interval = " with its 95% interval" if any(change and change.interval for change in changes) else interval
        cells = [Cell(formats.percent(ours.mean), ours.mean)]
        row = Row(names.domain_label(domain), [*cells, *map(_change_cell, changes)])
        rows.append((changes[0].mean if "teacher" in others and changes[0] else ours.mean, row))
    # The teacher is what the student could reach: the gap to it says more than a domain's own difficulty
    order = "furthest behind the teacher" if "teacher" in others else "lowest"
    compared = f" and the difference in points{interval}" if others else ""
    measure, kind = ("Top\u20111", "Domain") if yardstick.is_accuracy else ("Agreement", "Images")
    caption = f"{measure} in percent{compared}, {order} first."
    columns = [Column(f"vs {names.method_label(method).lower()}") for method in others]
    ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])[:MAX_DOMAINS]]
    return Table(caption, [Column(kind, numeric=False), Column(measure), *columns], ordered) if ordered else None


def _change_cell(change: Margin | None) -> Cell:
    """Colored where one of the two is better."""
    if change is None:
        return Cell("\u2013")
    note = formats.range_text(change.interval, lambda value: formats.signed(100 * value, 1)) if change.interval else ""
    return Cell(formats.signed(100 * change.mean, 1), change.mean, note, tone=change.tone)


def _class_table(run: RunResults, confusion: Confusion) -> Table | None:
    """The classes that the student gets right least often, or follows its teacher on, and what it takes them for."""
    caption, first, share = {
        "truth": ("The classes it gets right least often, original domain.", "Class", "Right, %"),
        "teacher": ("Where it follows its teacher least often, held-out images.", "Teacher says", "Follows, %"),
    }[confusion.against]
    columns = [Column(first, numeric=False), Column(share), Column("Images"), Column("Mostly taken for", numeric=False)]
    table = Table(caption, columns)
    for label in confusion.worst(MAX_CLASSES):
        share, images, wrong = confusion.shares[label], confusion.images[label], confusion.most_mistaken_for(label)
        taken = f"{class_name(run, wrong[0])}, {100 * wrong[1]:.0f}%" if wrong else "\u2013"
        cells = [Cell(f"{100 * share:.0f}", float(share)), Cell(f"{images:.0f}", float(images)), Cell(taken)]
        table.rows.append(Row(class_name(run, label), cells))
    return table if table.rows else None


def _vanished(run: RunResults, confusion: Confusion) -> str:
    vanished, seeds = confusion.vanished(), len(confusion.by_seed)
    images = "test image of the original domain" if confusion.against == "truth" else "held-out image"
    if not vanished:
        return f"No class has vanished: each is given to some {images}" + (" in every seed." if seeds > 1 else ".")
    shown = [
        class_name(run, label) + (f" (in {count} of {seeds} seeds)" if seeds > 1 else "")
        for label, count in list(vanished.items())[:MAX_NAMED]
    ]
    more = f" and {len(vanished) - MAX_NAMED} more" if len(vanished) > MAX_NAMED else ""
    return f"Vanished, never given to any {images}: {', '.join(shown)}{more}."


def reasons(run: RunResults) -> Reasons | None:
    """What was measured of the images that the student learned from; None where nothing was."""
    student, rival = subject(run.results, "images")
    measures = [m for m in REASONS if score(run.results, student, "images", m)]
    if not measures:
        return None
    ceiling = ceiling_of(run.results)
    shown = [m for m in (student, rival, ceiling) if m]
    table = Table(
        f"The images of {names.method_label(student)}, measured without any student.",
        [Column("Measure", numeric=False), *(Column(names.method_label(m)) for m in shown)],
        explains_rows=True,
    )
    for measure in measures:
        metric, cells = IMAGE_METRICS[measure], []
        for method in shown:
            value = score(run.results, method, "images", measure)
            note = formats.uncertainty(value, metric.write) if value and method == student else ""
            cells.append(Cell(metric.write(value.mean), value.mean, note) if value else Cell("\u2013"))
        table.rows.append(Row(metric.label, cells, metric.hint))
    return Reasons(table, [*_furthest(run, student, ceiling), *(MEANINGS[m] for m in measures if m in MEANINGS)])


MEANINGS = {
    "precision": "Low precision: images that no real one resembles.",
    "recall": "Low recall: real images that none of them resembles.",
    "vendi": "A low Vendi score: images of a class that are much alike.",
    "teacher_agreement": "A low share of the teacher: images that it takes for another class.",
}


def _furthest(run: RunResults, student: str, ceiling: str | None) -> list[str]:
    """Whether precision or recall stands further below the ceiling, in proportion to it."""
    gaps = {}
    for measure in ("precision", "recall"):
        value = score(run.results, student, "images", measure)
        most = score(run.results, ceiling, "images", measure) if ceiling else None
        if value and most and most.mean > 0:
            gaps[measure] = 100 * (1 - value.mean / most.mean)
    if not gaps:
        return []
    measure = max(gaps, key=gaps.__getitem__)
    if gaps[measure] < 0.5:  # would be shown as 0 %
        return [f"{' and '.join(gaps).capitalize()} are not below those of real images."]
    return [f"Furthest below real images: {measure}, by {gaps[measure]:.0f}%."]
