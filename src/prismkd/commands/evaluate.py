"""``prismkd evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from prismkd.commands.opening import do_stage
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prismkd.records.scores import Result


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Students and images to metrics.json."""


def evaluate(arguments: Arguments) -> None:
    """Measure every student and image set, and print how good the students are."""
    do_stage(arguments, "evaluate", before_end=lambda: print_students(arguments.folder()))


def print_students(out: Path) -> None:
    """Students' top-1 per domain, the mean over seeds; without test images, how often they agree with the teacher."""
    from prismkd.records.results import load_run

    results = load_run(out).results
    if any(row.metric == "top1" for row in results):
        _print_means("Top-1 accuracy of the students", [row for row in results if row.metric == "top1"])
        return
    rows = [row for row in results if row.metric == "agreement"]
    if not rows:
        show("nothing was measured of the students: there are neither test images nor held-out synthetic ones")
        return
    _print_means("Agreement with the teacher on held-out synthetic images (there are no test images)", rows)
    prompted = [f"{row.value:.3f} of {row.domain}" for row in results if row.metric == "prompted"]
    show(f"the teacher sees the prompted class in {' and '.join(prompted)}")


def _print_means(title: str, rows: Sequence[Result]) -> None:
    """A line per method and a column per domain, the mean over seeds."""
    domains = list(dict.fromkeys(row.domain for row in rows))
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        cells = []
        for domain in domains:
            values = [row.value for row in rows if (row.method, row.domain) == (method, domain)]
            cells.append(f"{fmean(values):.3f}" if values else "")
        lines.append([method, *cells])
    print_table(title, ["method", *domains], lines, left=1)
