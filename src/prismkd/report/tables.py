"""A run -> its tables."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from prismkd.config.methods import REFERENCES
from prismkd.records.directory import ADAPTATION, ROUND, adapter_folder, guide_folder
from prismkd.records.results import RunResults, seed_of
from prismkd.records.scores import (
    SHIFTED,
    Score,
    ceiling_of,
    image_methods,
    methods,
    score,
    shifted_score,
    subject,
)
from prismkd.records.shapes import AdaptationRecord, RoundRecord, Timing
from prismkd.report import formats, names
from prismkd.report.confusion import Confusion, confusion_of
from prismkd.report.margins import Rows, leaders
from prismkd.report.table import Cell, Column, Head, Row, ScoreColumn, Table, method_head, score_table
from prismkd.report.yardstick import Yardstick, yardstick_of

NUM_CHIEF = 7  # columns of the first table of image metrics; more would not fit a page
MAX_ROWS = 200  # of a table with a row per class; a page of 10,000 rows can't be read
TIMING_ORDER = ("senses", "contents", "calibration", "adapt", "synthesize", "held-out", "distill", "cas", "evaluate")
"""Rows of the table of seconds, in the order of the work; stages that aren't named here come last."""


def accuracy_table(run: RunResults) -> Table | None:
    """What every method's student reaches on every domain, in percent; the data-free ones in front are marked."""
    yardstick, rows = yardstick_of(run.results), _rows(run)
    of_whom = "of the students" if yardstick.is_accuracy else "on images that no student learned from"
    caption = f"{yardstick.name} {of_whom}, in percent."
    heads = {method: measured_head(method, yardstick) for method in rows}
    return score_table(caption, "Student from", accuracy_columns(rows, yardstick), heads, explains_rows=True)


def _rows(run: RunResults) -> Rows:
    return {method: (run, method) for method in methods(run.results)}


def measured_head(method: str, yardstick: Yardstick, suffix: str = "") -> Head:
    """A method's heading in the table of the page's measure; the teacher can't be held against itself."""
    if method != "teacher" or yardstick.is_accuracy:
        return method_head(method, suffix)
    head = method_head(method)
    note = "how often the teacher sees the class that was asked for"
    return Head(f"Teacher: prompted class{suffix}", note, head.style, reference=True)


def accuracy_columns(rows: Rows, yardstick: Yardstick) -> list[ScoreColumn]:
    """The first domain, the mean of the shifted ones where there are several, and each other one."""
    first, *others = yardstick.domains
    places = [first, *([SHIFTED] if yardstick.has_shifted and len(others) > 1 else []), *others]
    scores = {key: {where: _measured(yardstick, *row, where) for where in places} for key, row in rows.items()}
    data_free = {key: row for key, row in rows.items() if row[1] not in REFERENCES}
    marked = leaders(data_free, {key: scores[key] for key in data_free})
    hints = {"id": "held-out real images like the teacher's", SHIFTED: f"mean of {', '.join(others)}"}
    labels = {SHIFTED: "Mean shifted"}
    return [
        ScoreColumn(
            Column(labels.get(where) or names.domain_label(where), hints.get(where, "")),
            {key: of_row[where] for key, of_row in scores.items()},
            formats.percent,
            marked=frozenset(marked.get(where, ())),
        )
        for where in places
    ]


def _measured(yardstick: Yardstick, run: RunResults, method: str, where: str) -> Score | None:
    if method == "teacher" and not yardstick.is_accuracy:
        return score(run.results, method, where, "prompted")
    return yardstick.of(run.results, method, where)


def behavior_table(run: RunResults) -> Table | None:
    """Whatever else was measured of the students, on the original and over the shifted domains."""
    everyone = methods(run.results)
    measured = {r.metric for r in run.results if r.domain == "id"} - {"top1"}
    columns = []
    for name in in_order(measured, names.STUDENT_METRICS):
        metric = names.metric_of(names.STUDENT_METRICS, name)
        shown = [m for m in everyone if (m, name) != ("teacher", "agreement")]  # with itself it is 1
        on_id = {m: score(run.results, m, "id", name) for m in shown}
        on_shifted = {m: shifted_score(run.results, m, name) for m in shown}
        for where, scores in (("original", on_id), ("shifted", on_shifted)):
            if any(scores.values()):
                column = Column(f"{metric.label}, {where}".replace(", %,", ", %"), metric.hint)
                columns.append(ScoreColumn(column, scores, metric.write, metric.best))
    heads = {method: method_head(method) for method in everyone}
    return score_table("What else was measured of the students.", "Student from", columns, heads)


def image_tables(run: RunResults) -> list[Table]:
    """Metrics of the image sets themselves, the chief ones first; real images against other ones are the ceiling."""
    heads, ceiling = {m: method_head(m) for m in image_methods(run.results)}, ceiling_of(run.results)
    if ceiling:
        heads[ceiling] = method_head(ceiling, " (ceiling)")
    columns = image_columns(_rows(run))
    return [
        table
        for caption, part in (
            ("The image sets, measured without any student.", columns[:NUM_CHIEF]),
            ("Further measures of the image sets.", columns[NUM_CHIEF:]),
        )
        if part and (table := score_table(caption, "Images", part, heads))
    ]


def image_columns(rows: Rows) -> list[ScoreColumn]:
    """Every metric of image sets that any row has, the known ones first."""
    measured = {
        row.metric
        for run, method in rows.values()
        for row in run.results
        if (row.domain, row.method) == ("images", method)
    }
    columns = []
    for name in in_order(measured, names.IMAGE_METRICS):
        metric = names.metric_of(names.IMAGE_METRICS, name)
        scores = {key: score(run.results, m, "images", name) for key, (run, m) in rows.items()}
        columns.append(ScoreColumn(Column(metric.label, metric.hint), scores, metric.write, metric.best))
    return columns


def in_order(metrics: set[str], known: Mapping[str, Any]) -> list[str]:
    """Metrics in the order of those that are ``known``, others behind them by name."""
    return [*(name for name in known if name in metrics), *sorted(metrics - known.keys())]


def timing_table(run: RunResults) -> Table | None:
    """Seconds of every stage and method, the mean over seeds, and in proportion to plain prompts'."""
    groups = timings_of(run)
    if not groups:
        return None
    table = Table("Wall-clock time of each stage, mean over seeds.", [Column("Stage", numeric=False)])
    table.columns.extend(
        [Column("Method", numeric=False), Column("Time"), Column("Images"), Column("Images per second"),
         Column("Time, plain = 1", "seconds per image in proportion to plain prompts' images")]
    )  # fmt: skip
    for (stage, method), (seconds, images) in groups.items():
        plain_seconds, plain_images = groups.get((stage, "plain"), (0.0, 0.0))
        rate = images / seconds if seconds > 0 else 0.0
        ratio = plain_images / plain_seconds / rate if stage == "synthesize" and plain_seconds and rate else 0.0
        cells = [Cell(names.method_label(method) or "\u2013"), Cell(formats.duration(seconds), seconds)]
        cells += [
            Cell(text, value) if value else Cell("\u2013")
            for text, value in ((f"{images:,.0f}", images), (f"{rate:,.1f}", rate), (f"{ratio:.2f}", ratio))
        ]
        table.rows.append(Row(stage[:1].upper() + stage[1:], cells))
    return table


def timings_of(run: RunResults) -> dict[tuple[str, str], tuple[float, float]]:
    """(stage, method) -> mean over seeds of seconds and images, in the order of work; "" where a stage serves all."""
    groups: dict[tuple[str, str], list[Timing]] = {}
    for row in run.metrics.get("timings", []):
        groups.setdefault((row["stage"], row.get("method") or ""), []).append(row)
    return {
        key: (fmean(float(r.get("seconds") or 0) for r in rows), fmean(float(r.get("images") or 0) for r in rows))
        for key, rows in sorted(groups.items(), key=lambda group: place_in_work(group[0][0]))
    }


def place_in_work(stage: str) -> int:
    """By which stages are sorted."""
    return TIMING_ORDER.index(stage) if stage in TIMING_ORDER else len(TIMING_ORDER)


def total_seconds(run: RunResults) -> float:
    """Wall-clock seconds of all stages, methods and seeds."""
    return sum(float(row.get("seconds") or 0) for row in run.metrics.get("timings", []))


def calibration_table(run: RunResults) -> Table | None:
    """Energy target of every class, and how many unguided images it rests on."""
    if run.calibration is None or not run.calibration["energy_target"]:
        return None
    targets, counts = run.calibration["energy_target"], run.calibration["per_class_count"]
    caption = "Energy target per class, and the unguided images it rests on"
    order = sorted(range(len(targets)), key=lambda label: counts[label] if label < len(counts) else 0)
    shown, cut = _first_rows(order, len(targets), "with the fewest images")
    table = Table(f"{caption}{cut}.", [Column("Class", numeric=False)])
    table.columns.extend([Column("Target energy", "lower is more in-distribution"), Column("Images")])
    most = max([*counts, 1])
    for label in shown:
        target = targets[label]
        count = counts[label] if label < len(counts) else None
        cells = [Cell(formats.number(float(target), 2), float(target))]
        cells.append(Cell("\u2013") if count is None else Cell(str(count), float(count), bar=count / most))
        table.rows.append(Row(class_name(run, label), cells))
    return table


def adaptation_table(run: RunResults) -> Table | None:
    """What the teacher said of the adapter's images while it was trained."""
    record = run.document(adapter_folder(run.folder) / ADAPTATION, AdaptationRecord)
    if record is None:
        return None
    ended = " The training ended early, for want of diversity." if record["stopped"] else ""
    table = Table(f"Unguided images of the adapter, by the step of its training.{ended}", [Column("Step")])
    table.columns.extend([
        Column("Energy", "what guidance lowers"), Column("Teacher agrees", "with the prompted class, in percent"),
        Column("Diversity", "Vendi score of the teacher's features within a class, from 1 to 12"),
    ])  # fmt: skip
    rows = {f"{check['step']:,}": check for check in record["checks"]}
    for label, check in (rows | {"No adapter, but EDA": record["guided"]}).items():
        is_kept = label == f"{record['chosen_step']:,}"
        cells = [Cell(formats.number(check["energy"], 3), check["energy"], best=is_kept),
                 Cell(formats.percent(check["agreement"]), check["agreement"], best=is_kept),
                 Cell(formats.number(check["diversity"], 2), check["diversity"], best=is_kept)]  # fmt: skip
        table.rows.append(Row(f"{label}, kept" if is_kept else label, cells))
    return table


def rounds_table(run: RunResults) -> Table | None:
    """The guides of methods in rounds: on how many images each was trained, and what it had not learned of them."""
    table = Table("Guides, each a student of the images before it.", [Column("Guide", numeric=False)])
    table.columns.extend([Column("Images"), Column("Disagreement", "in nats, where it decides about the next round")])
    for method, folders in run.folders.items():
        for folder in folders:
            for number in itertools.count(1):
                record = run.document(guide_folder(folder, number) / ROUND, RoundRecord)
                if record is None:
                    break
                missed = record.get("disagreement")
                cells = [Cell(f"{record['num_images']:,}", record["num_images"]),
                         Cell("" if missed is None else formats.number(missed, 2), missed)]  # fmt: skip
                table.rows.append(
                    Row(f"{names.method_label(method)}, seed {seed_of(folder)}, after round {number}", cells)
                )
    return table if table.rows else None


def confused_table(run: RunResults, confusion: Confusion, num_pairs: int = 10) -> Table | None:
    """The pairs (class it should be, class the student gives) that occur most."""
    mistakes, totals = confusion.counts.copy(), confusion.counts.sum(axis=1)
    np.fill_diagonal(mistakes, 0)
    caption, row = {
        "truth": ("Most frequent mistakes.", "True class"),
        "teacher": ("Where the student most often departs from its teacher.", "Teacher says"),
    }[confusion.against]
    table = Table(caption, [Column(row, numeric=False), Column("Student says", numeric=False)])
    table.columns.extend([Column("Answers"), Column("% of row")])
    for flat in np.argsort(-mistakes, axis=None, kind="stable")[:num_pairs]:
        expected, answer = divmod(int(flat), mistakes.shape[1])
        count = mistakes[expected, answer]
        if count > 0:
            cells = [Cell(class_name(run, answer)), Cell(f"{count:.0f}", count)]
            cells.append(Cell(formats.percent(count / totals[expected]), count / totals[expected]))
            table.rows.append(Row(class_name(run, expected), cells))
    return table if table.rows else None


def class_table(run: RunResults) -> Table | None:
    """Share of each class that the students get right, and how often the page's student follows its teacher.

    Without test images it is by the classes that the teacher gives, and how often the students follow. Of many classes
    those that the page's student does worst on are shown.
    """
    student, rival = subject(run.results)
    against = "truth" if any(confusion_of(run, m) for m in (student, rival, "real") if m) else "teacher"
    columns = {m: counts for m in (student, rival, "real") if m and (counts := confusion_of(run, m, against))}
    if not columns:
        return None
    first = next(iter(columns.values()))
    shown = list(columns.values())
    followed = confusion_of(run, student, "teacher") if against == "truth" else None
    if followed:
        shown.append(followed)
    num_tested = int(np.isfinite(first.shares).sum())
    which = f"that {names.method_label(first.method)} does worst on"
    labels, cut = _first_rows(first.worst(num_tested), len(first.counts), which)
    caption, images = {
        "truth": ("Share of each class that the students get right, original domain, in percent", "Test images"),
        "teacher": ("How often the students follow their teacher, by its class, held-out images, in percent", "Images"),
    }[against]
    table = Table(f"{caption}{cut}.", [Column("Class", numeric=False), Column(images)])
    table.columns.extend(Column(names.method_label(m)) for m in columns)
    if followed:
        table.columns.append(Column("Follows teacher", "of the images that the teacher gives this class"))
    shares = [confusion.shares for confusion in shown]
    for label in labels:
        cells = [Cell(f"{first.images[label]:.0f}", float(first.images[label]))]
        cells += [_share_cell(float(of_classes[label])) for of_classes in shares]
        table.rows.append(Row(class_name(run, label), cells))
    return table


def _first_rows(order: Sequence[int], num_classes: int, which: str) -> tuple[list[int], str]:
    """Labels of a table's rows, in the order of the classes, or the first of ``order`` where these are too many."""
    if len(order) <= MAX_ROWS:
        few = len(order) < num_classes
        return sorted(order), f"; {len(order):,} of {num_classes:,} classes have any" if few else ""
    return list(order[:MAX_ROWS]), f"; the {MAX_ROWS} of {num_classes:,} classes {which}"


def _share_cell(share: float) -> Cell:
    return Cell("\u2013") if np.isnan(share) else Cell(f"{100 * share:.0f}", share)


def class_name(run: RunResults, label: int) -> str:
    """Name of a class; its number where the run has no name for it."""
    return run.classes[label] if 0 <= label < len(run.classes) else f"class {label}"
