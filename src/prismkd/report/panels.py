"""A run -> its titled figures: accuracy by domain, energies, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from prismkd.config.methods import REFERENCES
from prismkd.records.results import RunResults
from prismkd.records.scores import methods
from prismkd.records.shapes import ShownEvaluation
from prismkd.report import figures, formats, names, tables
from prismkd.report.confusion import Confusion, main_confusion
from prismkd.report.figures import Mark
from prismkd.report.table import Table
from prismkd.report.yardstick import yardstick_of

MAX_HEAT_MAP_CLASSES = 100
MAX_BESIDE = 36  # of these classes a heat map has room beside a table; a larger one is folded


@dataclass(frozen=True)
class Panel:
    """A titled figure."""

    title: str
    figure: Markup
    note: str = ""


@dataclass(frozen=True)
class ConfusionPart:
    """One confusion matrix as a figure, ``folded`` where it would take a whole screen, and as its largest entries."""

    title: str
    note: str
    heat_map: Markup | None
    table: Table | None
    folded: bool


def domain_panels(run: RunResults) -> list[Panel]:
    """What every method reaches on each domain."""
    yardstick = yardstick_of(run.results)
    return marked_panels(yardstick.name, {
        domain: [
            Mark(names.method_label(m), s.mean, s.interval, names.method_class(m))
            for m in methods(run.results) if (s := yardstick.of(run.results, m, domain))
        ]
        for domain in yardstick.domains
    })  # fmt: skip


def marked_panels(measure: str, marks: Mapping[str, Sequence[Mark]]) -> list[Panel]:
    """A panel for each domain with marks of a measure, all on the same axis."""
    ends = [end for of_domain in marks.values() for mark in of_domain for end in (mark.value, *(mark.interval or ()))]
    if not ends:
        return []
    low, high = max(0.0, min(ends) - 0.03), min(1.0, max(ends) + 0.03)
    return [
        Panel(title, figures.dot_figure(f"{measure}, {title}", of_domain, low, high))
        for domain, of_domain in marks.items()
        if (title := names.domain_label(domain)) and of_domain
    ]


def energy_panels(run: RunResults) -> list[Panel]:
    """Teacher energy per image before and after guidance, all seeds together, on one axis."""
    energies = {method: _energies(run.evaluations(method)) for method in run.folders}
    energies = {m: pair for m, pair in energies.items() if m not in REFERENCES and len(pair[1])}
    if not energies:
        return []
    # Quantiles: a single image with an absurd energy would press all others into one bin
    low, high = figures.padded_range(
        np.quantile(np.concatenate([*sum(energies.values(), ())]), [0.005, 0.995]).tolist(), 0.04
    )
    target = run.calibration["energy_all"] if run.calibration else None
    return [
        Panel(
            names.method_label(method),
            figures.histogram_figure(
                f"Energy of {names.method_label(method)} images",
                before,
                after,
                low,
                high,
                target,
                names.method_class(method),
            ),
            _median_note(before, after),
        )
        for method, (before, after) in energies.items()
    ]


def calibration_panel(run: RunResults) -> Panel | None:
    """Energies of the unguided calibration images, with the target over all classes."""
    energies = _finite(run.calibration["energies"]) if run.calibration else np.empty(0)
    if run.calibration is None or not len(energies):
        return None
    low, high = figures.padded_range(energies.tolist(), 0.04)
    target = run.calibration["energy_all"]
    figure = figures.histogram_figure("Energy of unguided calibration images", [], energies.tolist(), low, high, target)
    note = f"{len(energies)} images, target {formats.number(target, 2)}"
    return Panel("Calibration images", figure, note)


def confusion_parts(run: RunResults) -> list[ConfusionPart]:
    """The student's answers against its teacher's where the run has them, and against the true classes."""
    confusions = [confusion for against in ("teacher", "truth") if (confusion := main_confusion(run, against))]
    images = "the original domain" if yardstick_of(run.results).is_accuracy else "held-out synthetic images"
    return [
        ConfusionPart(
            {"teacher": "Confusion against the teacher", "truth": "Confusion against the true class"}[part.against],
            f"The {names.method_label(part.method)} student on {images}, all seeds together. Rows are "
            f"{ROWS[part.against]} and sum to 100%.",
            heat_map(run, part),
            tables.confused_table(run, part),
            len(part.counts) > MAX_BESIDE,
        )
        for part in confusions
    ]


ROWS = {"teacher": "the classes that the teacher gives", "truth": "true classes"}


def heat_map(run: RunResults, confusion: Confusion) -> Markup | None:
    """The confusion matrix; with too many classes to read, the table of mistakes must do."""
    num_classes = len(confusion.counts)
    if num_classes > MAX_HEAT_MAP_CLASSES:
        return None
    classes = [tables.class_name(run, label) for label in range(num_classes)]
    return figures.heat_map(classes, confusion.counts, ROWS[confusion.against])


def _energies(documents: Sequence[ShownEvaluation]) -> tuple[list[float], list[float]]:
    """All (before, after) energies of a method's seeds."""
    pairs = [document.get("energy", {}) for document in documents]
    before = [_finite(pair.get("before")) for pair in pairs]
    after = [_finite(pair.get("after")) for pair in pairs]
    return np.concatenate([np.empty(0), *before]).tolist(), np.concatenate([np.empty(0), *after]).tolist()


def _finite(values: Sequence[float | None] | None) -> NDArray[np.float64]:
    array = np.asarray(values or [], dtype=np.float64)
    return array[np.isfinite(array)]


def _median_note(before: Sequence[float], after: Sequence[float]) -> str:
    median = formats.number(float(np.median(after)), 2)
    return (
        f"median {formats.number(float(np.median(before)), 2)} \u2192 {median}" if len(before) else f"median {median}"
    )
