"""Several runs -> one page that shows them side by side, where they can be compared at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.files import check_no_link_out, remove_leftovers, write
from prismkd.records.comparison import basis_of, check_comparable
from prismkd.records.directory import TRACKER
from prismkd.report import ranking, several_runs
from prismkd.report.named_run import NamedRun, load_runs
from prismkd.report.page import render
from prismkd.report.provenance import command_of, provenance
from prismkd.report.yardstick import yardstick_of

MAX_RUNS = 8  # as many colors as can be told apart


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write one page with several runs side by side; the runs stay as they are.

    Raises:
        UserError: fewer than 2 runs or too many, the same one twice, no folder for the page or a file of its name, a
            run that has not been evaluated, or runs of other classes or test images.
    """
    if not 2 <= len(folders) <= MAX_RUNS or len({folder.resolve() for folder in folders}) < len(folders):
        named = " ".join(map(str, folders)) or "none"
        raise UserError(f"expected 2 to {MAX_RUNS} runs, each once, got {named}; name their folders")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"expected a file in a folder that exists for --dest, got {path}; give a name as compare.html")
    if os.path.lexists(path):
        raise UserError(f"expected a new file for --dest, got {path}, which is there already; choose another name")
    for folder in folders:
        check_no_link_out(folder, ignoring=TRACKER)
    runs = load_runs(folders)
    check_comparable([basis_of(named.run) for named in runs])
    page = render("compare.html", context(runs))
    remove_leftovers(path)
    write(path, page)
    return path


def context(runs: Sequence[NamedRun]) -> dict[str, Any]:
    """Everything the template shows."""
    alike = several_runs.same_measures_of_images(runs)
    yardstick = yardstick_of(row for named in runs for row in named.run.results)
    return {
        "yardstick": yardstick,
        "runs": runs,
        "sentence": ranking.sentence(runs, yardstick),
        "details": ranking.details(runs, yardstick),
        "figures": [ranking.key_figure(named, yardstick) for named in runs],
        "accuracy": several_runs.accuracy_table(runs, yardstick),
        "domain_panels": several_runs.domain_panels(runs, yardstick),
        "image_metrics": [several_runs.image_table(runs)]
        if alike
        else [several_runs.image_table([named]) for named in runs],
        "images_alike": alike,
        "plane": several_runs.plane_of_runs(runs) if alike else None,
        "cost": several_runs.cost_table(runs),
        "settings": several_runs.settings_table(runs),
        "provenance": [(named, command_of(named.run), provenance(named.run)) for named in runs],
    }
