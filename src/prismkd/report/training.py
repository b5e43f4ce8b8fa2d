"""How a run's students were trained: loss over steps, and how they do on the very images that they learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from prismkd.config.methods import REFERENCES
from prismkd.records.directory import HELD_OUT, STUDENT
from prismkd.records.results import RunResults
from prismkd.records.scores import Score, score
from prismkd.records.shapes import TrainingLog
from prismkd.report import formats, names
from prismkd.report.curves import Curve, curve_figure
from prismkd.report.table import Cell, Column, Row, Table, method_head
from prismkd.report.yardstick import yardstick_of

MAX_WARNINGS = 6


@dataclass(frozen=True)
class Training:
    """What a method's trainings left behind, the mean over seeds; None or empty where a log doesn't say.

    Attributes:
        method: whose images were learned from.
        num_steps: of the longest training.
        num_images: that were learned from.
        curve: the mean loss over each of equal parts of the steps.
        train_agreement: share of the training images on which student and teacher say the same.
        train_top1: share of the training images whose prompted class the student gives.
        plateaued: whether any of them was warned of an early plateau.
        warnings: of all seeds.
    """

    method: str
    num_steps: int
    num_images: float
    curve: tuple[float, ...]
    train_agreement: float | None
    train_top1: float | None
    warnings: tuple[str, ...] = ()

    @property
    def plateaued(self) -> bool:
        """Whether the loss stopped falling early, as the training warned."""
        return any("early plateau" in text for text in self.warnings)

    @property
    def last_fall(self) -> float | None:
        """Share of the loss's whole fall that came in the last quarter of the steps; None where it didn't fall.

        From the mean of one quarter to the next, which a single batch can't move. As the learning rate goes to zero,
        a training that was long enough has a few percent left here; one that was cut short has a tenth or more.
        """
        size = len(self.curve) // 4
        if size < 2:
            return None
        quarters = [fmean(self.curve[place * size : (place + 1) * size]) for place in range(4)]
        fall = quarters[0] - quarters[3]
        return (quarters[2] - quarters[3]) / fall if fall > 0 else None


def trainings_of(run: RunResults) -> dict[str, Training]:
    """By method, for every method with a student."""
    found = {}
    for method in run.folders:
        logs = run.documents(method, f"{STUDENT}/log.json", TrainingLog)
        if logs:
            found[method] = _training(method, logs)
    return found


def _training(method: str, logs: Sequence[TrainingLog]) -> Training:
    curves = [log.get("curve") or [] for log in logs]
    same = len({len(curve) for curve in curves}) == 1
    return Training(
        method,
        max((row["step"] for log in logs for row in log["log"]), default=0),
        fmean(log["images"] for log in logs),
        tuple(fmean(values) for values in zip(*curves, strict=True)) if same else (),
        _mean([log.get("train_agreement") for log in logs]),
        _mean([log.get("train_top1") for log in logs]),
        tuple(dict.fromkeys(text for log in logs for text in log.get("warnings", []))),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None


def training_figure(run: RunResults) -> Markup | None:
    """The losses of all methods over their steps, the mean over seeds; None where no log has a curve."""
    curves = [
        Curve(names.method_label(method), training.num_steps, training.curve, names.method_class(method))
        for method, training in trainings_of(run).items()
        if len(training.curve) > 1 and training.num_steps
    ]
    return curve_figure("Training loss", curves) if curves else None


def training_table(run: RunResults) -> Table | None:
    """Each method's training, and how far the student follows its teacher on images that it knows and on others."""
    trainings, yardstick = trainings_of(run), yardstick_of(run.results)
    if not any(training.num_steps for training in trainings.values()):
        return None
    caption = "How often the students say what their teacher says, in percent: on their own images and on others."
    table = Table(caption, [Column("Student from", numeric=False), Column("Steps"), Column("Images")])
    domains = ["id"] if yardstick.is_accuracy else list(yardstick.domains)
    knows_own = any(training.train_agreement is not None for training in trainings.values())
    knows_labels = any(training.train_top1 is not None for training in trainings.values())
    table.columns.extend(
        [Column("Own images", "those that it learned from, without augmentation")] if knows_own else []
    )
    labels = {"id": "Test images"}
    table.columns.extend(Column(labels.get(domain) or names.domain_label(domain)) for domain in domains)
    hint = "on its own images, how often the student gives the class that was asked for"
    table.columns.extend([Column("Prompted class", hint)] if knows_labels else [])
    for method, training in trainings.items():
        head = method_head(method)
        cells = [Cell(f"{count:,.0f}", count) for count in (training.num_steps, training.num_images)]
        cells += [_share(training.train_agreement)] if knows_own else []
        cells += [_score(score(run.results, method, domain, "agreement")) for domain in domains]
        cells += [_share(training.train_top1)] if knows_labels else []
        table.rows.append(Row(head.label, cells, head.note, head.style))
    return table


def _share(value: float | None) -> Cell:
    return Cell("\u2013") if value is None else Cell(formats.percent(value), value)


def _score(found: Score | None) -> Cell:
    return Cell("\u2013") if found is None else Cell(formats.percent(found.mean), found.mean)


def training_warnings(run: RunResults) -> list[str]:
    """What the trainings warned of, method by method."""
    found = [
        f"{names.method_label(method)}: {text}" for method, training in trainings_of(run).items()
        for text in training.warnings
    ]  # fmt: skip
    more = len(found) - MAX_WARNINGS
    return found[:MAX_WARNINGS] + ([f"{more} more."] if more > 0 else [])


def unseen_agreement(run: RunResults, method: str) -> tuple[float, str] | None:
    """How far a student follows its teacher on images that it didn't learn from, and which: test or held-out ones.

    Of held-out ones those of the kind that it learned from, since other images are harder for another reason.
    """
    on_test = score(run.results, method, "id", "agreement")
    if on_test:
        return on_test.mean, "test images of the original domain"
    kinds = ["plain", "diverse"] if method in ("plain", "more", "eda", *REFERENCES) else ["diverse", "plain"]
    for kind in kinds:
        found = score(run.results, method, HELD_OUT[kind], "agreement")
        if found:
            return found.mean, f"held-out {kind} images"
    return None
