"""A run -> the page: collects what every section shows, renders the template, writes the file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from prismkd.records.results import RunResults, expected_shape, load_run
from prismkd.records.scores import REFERENCES, ceiling_of, methods, score, shifted_domains
from prismkd.report import figures, names, plane, prompts, tables
from prismkd.report.confusion import Confusion, main_confusion
from prismkd.report.figures import Mark
from prismkd.report.findings import reasons, shortfalls
from prismkd.report.headline import headline
from prismkd.report.thumbnails import MAX_CLASSES, image_grids

MAX_HEAT_MAP_CLASSES = 60


@dataclass(frozen=True)
class Panel:
    """A titled figure."""

    title: str
    figure: Markup
    note: str = ""


@dataclass(frozen=True)
class ConfusionPart:
    """One confusion matrix as a figure and as its largest entries."""

    title: str
    note: str
    heat_map: Markup | None
    table: tables.Table | None


def write_report(run_dir: Path) -> Path:
    """Write `run_dir`/report.html: one file, no network, whatever parts the run has.

    Returns the path of the report.
    Raises UserError when metrics.json is missing, or a file of the run is damaged.
    """
    path = run_dir / "report.html"
    with expected_shape(run_dir):
        page = render("run.html", context(load_run(run_dir)))
    write_page(path, page)
    return path


def write_page(path: Path, page: str) -> None:
    """Write a page so that a kill leaves the old one or the new one."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)


def render(template: str, values: dict[str, Any]) -> str:
    """The page as text. Names and prompts are escaped, and the page's policy runs no script but its own."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("prismkd.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (resources.files("prismkd.report") / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(template).render(**values, script=Markup(script), script_hash=f"sha256-{digest}")


def context(run: RunResults) -> dict[str, Any]:
    """Everything the template shows; a section whose part the run lacks is None or empty."""
    points, ceiling = plane.points_of(run), ceiling_of(run.results)
    return {
        "name": run_name(run.folder),
        "headline": headline(run),
        "shortfalls": shortfalls(run),
        "reasons": reasons(run),
        "seeds": len({result.seed for result in run.results}),
        "num_classes": len(run.classes),
        "max_classes": MAX_CLASSES,
        "accuracy": tables.accuracy_table(run),
        "domain_panels": domain_panels(run),
        "behavior": tables.behavior_table(run),
        "image_metrics": tables.image_tables(run),
        "plane": plane.plane_figure(points, plane.path({point.key for point in points})),
        "ceiling": bool(ceiling),
        "grids": image_grids(run),
        "energy_panels": energy_panels(run),
        "calibration": tables.calibration_table(run),
        "calibration_panel": calibration_panel(run),
        "senses": prompts.sense_cards(run),
        "prompts": prompts.prompt_sets(run),
        "dropped": prompts.dropped_contents(run),
        "classes": tables.class_table(run),
        "confusions": confusion_parts(run),
        "timings": tables.timing_table(run),
        "total_time": names.duration(tables.total_seconds(run)),
        "hardware": str(run.metrics.get("hardware") or ""),
        "command": command_of(run),
        "provenance": provenance(run),
        "config": json.dumps(run.record["config"], indent=2) if run.record.get("config") else "",
    }


def run_name(folder: Path) -> str:
    """What a run is called: its folder."""
    return folder.resolve().name


def domain_panels(run: RunResults) -> list[Panel]:
    """Accuracy per domain, all on the same axis."""
    everyone = methods(run.results)
    fields = {
        domain: {m: s for m in everyone if (s := score(run.results, m, domain))}
        for domain in ["id", *shifted_domains(run.results)]
    }
    ends = [e for scores in fields.values() for s in scores.values() for e in (s.mean, *(s.interval or ()))]
    if not ends:
        return []
    low, high = max(0.0, min(ends) - 0.03), min(1.0, max(ends) + 0.03)
    return [
        Panel(
            names.domain_label(domain),
            figures.dot_figure(
                f"Top-1 accuracy, {names.domain_label(domain)}",
                [
                    Mark(names.method_label(m), s.mean, s.interval, style=names.method_class(m))
                    for m, s in scores.items()
                ],
                low,
                high,
            ),
        )
        for domain, scores in fields.items()
        if scores
    ]


def energy_panels(run: RunResults) -> list[Panel]:
    """Teacher energy per image before and after guidance, all seeds together, on one axis."""
    energies = {method: _energies(run.documents(method, "evaluation.json")) for method in run.folders}
    energies = {m: pair for m, pair in energies.items() if m not in REFERENCES and len(pair[1])}
    if not energies:
        return []
    low, high = figures.padded_range(
        np.quantile(np.concatenate([*sum(energies.values(), ())]), [0.005, 0.995]).tolist(), 0.04
    )
    target = (run.calibration or {}).get("energy_all")
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
    energies = _finite((run.calibration or {}).get("energies"))
    if run.calibration is None or not len(energies):
        return None
    low, high = figures.padded_range(energies.tolist(), 0.04)
    target = run.calibration.get("energy_all")
    figure = figures.histogram_figure("Energy of unguided calibration images", [], energies.tolist(), low, high, target)
    note = f"{len(energies)} images"
    return Panel("Calibration images", figure, note if target is None else f"{note}, target {names.number(target, 2)}")


def confusion_parts(run: RunResults) -> list[ConfusionPart]:
    """The student's answers against its teacher's where the run has them, and against the true classes."""
    found = [confusion for against in ("teacher", "truth") if (confusion := main_confusion(run, against))]
    return [
        ConfusionPart(
            {"teacher": "Confusion against the teacher", "truth": "Confusion against the true class"}[part.against],
            f"The {names.method_label(part.method)} student on the original domain, all seeds together. Rows are "
            f"{ROWS[part.against]} and sum to 100%.",
            heat_map(run, part),
            tables.confused_table(run, part),
        )
        for part in found
    ]


ROWS = {"teacher": "the classes that the teacher gives", "truth": "true classes"}


def heat_map(run: RunResults, found: Confusion) -> Markup | None:
    """The confusion matrix; with too many classes to read, the table of mistakes must do."""
    num_classes = len(found.counts)
    if num_classes > MAX_HEAT_MAP_CLASSES:
        return None
    classes = [tables.class_name(run, label) for label in range(num_classes)]
    return figures.heat_map(classes, found.counts, ROWS[found.against])


def command_of(run: RunResults) -> str:
    """The command that made the run."""
    return str(run.record.get("command") or run.metrics.get("command") or "")


def provenance(run: RunResults) -> list[tuple[str, str]]:
    """What it takes to make these numbers again, besides the command."""
    seeds = sorted({result.seed for result in run.results})
    entries = {
        "Version": run.record.get("version"),
        "Hardware": run.metrics.get("hardware"),
        "Started": run.record.get("started"),
        "Measured": run.metrics.get("date"),
        "Seeds": ", ".join(map(str, seeds)),
    }
    return [(name, _plain_text(value)) for name, value in entries.items() if value]


def _plain_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain_text(part)}" for key, part in value.items())
    return ", ".join(map(_plain_text, value)) if isinstance(value, list) else str(value)


def _energies(documents: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """All (before, after) energies of a method's seeds."""
    pairs = [document.get("energy") or {} for document in documents]
    before, after = (
        np.concatenate([_finite(pair.get(when)) for pair in pairs] or [np.empty(0)]).tolist()
        for when in ("before", "after")
    )
    return before, after


def _finite(values: Sequence[float | None] | None) -> NDArray[np.float64]:
    array = np.asarray(values or [], dtype=np.float64)
    return array[np.isfinite(array)]


def _median_note(before: Sequence[float], after: Sequence[float]) -> str:
    median = names.number(float(np.median(after)), 2)
    return f"median {names.number(float(np.median(before)), 2)} \u2192 {median}" if len(before) else f"median {median}"
