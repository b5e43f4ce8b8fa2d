"""A run -> its page: collects what every section shows, renders the template, writes the file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from prismkd.files import check_no_link_out, write
from prismkd.records.directory import TRACKER
from prismkd.records.results import RunResults, load_run
from prismkd.records.scores import ceiling_of
from prismkd.report import formats, panels, precision_recall, prompts, tables, training
from prismkd.report.advice import advice
from prismkd.report.findings import reasons, shortfalls
from prismkd.report.headline import headline
from prismkd.report.page import render
from prismkd.report.provenance import command_of, provenance, run_name
from prismkd.report.stored_images import stored_images
from prismkd.report.thumbnails import gallery
from prismkd.report.yardstick import yardstick_of


def write_report(run_dir: Path) -> Path:
    """Write `run_dir`/report.html: one file, no network, whatever parts the run has.

    Returns the path of the report.
    Raises UserError when metrics.json is missing, a file of the run is damaged, or a link leads out of it.
    """
    check_no_link_out(run_dir, ignoring=TRACKER)
    path = run_dir / "report.html"
    write(path, render("run.html", context(load_run(run_dir))))
    return path


def context(run: RunResults) -> dict[str, Any]:
    """Everything the template shows; a section whose part the run lacks is None or empty."""
    points, ceiling = precision_recall.points_of(run), ceiling_of(run.results)
    stored, found = stored_images(run), advice(run)
    senses, num_senses = prompts.sense_cards(run)
    return {
        "name": run_name(run.folder),
        "headline": headline(run),
        "shortfalls": shortfalls(run),
        "reasons": reasons(run),
        "advice": found,
        "trains_again": any("prismkd distill" in item.command for item in found),
        "again": f"prismkd run --out {shlex.quote(str(run.folder))}",
        "yardstick": yardstick_of(run.results),
        "seeds": len({result.seed for result in run.results}),
        "accuracy": tables.accuracy_table(run),
        "domain_panels": panels.domain_panels(run),
        "behavior": tables.behavior_table(run),
        "training": training.training_table(run),
        "training_figure": training.training_figure(run),
        "training_warnings": training.training_warnings(run),
        "image_metrics": tables.image_tables(run),
        "has_precision": any(row.metric == "precision" for row in run.results),
        "plane": precision_recall.plane_figure(points, precision_recall.path({point.key for point in points})),
        "ceiling": bool(ceiling),
        "gallery": gallery(run, stored),
        "no_images": stored.remark,
        "energy_panels": panels.energy_panels(run),
        "calibration": tables.calibration_table(run),
        "calibration_panel": panels.calibration_panel(run),
        "adaptation": tables.adaptation_table(run),
        "rounds": tables.rounds_table(run),
        "senses": senses,
        "num_senses": num_senses,
        "prompts": prompts.prompt_sets(run, stored),
        "dropped": prompts.dropped_contents(run),
        "classes": tables.class_table(run),
        "confusions": panels.confusion_parts(run),
        "timings": tables.timing_table(run),
        "total_time": formats.duration(tables.total_seconds(run)),
        "hardware": str(run.metrics.get("hardware") or ""),
        "command": command_of(run),
        "provenance": provenance(run),
        "config": json.dumps(run.record["config"], indent=2) if run.record.get("config") else "",
    }
