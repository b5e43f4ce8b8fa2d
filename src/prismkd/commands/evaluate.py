"""``prismkd evaluate``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from prismkd.commands.opening import do_stage
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Students and images to metrics.json."""


def evaluate(arguments: Arguments) -> None:
    """Measure every student and image set, and print the students' accuracy."""
    do_stage(arguments, "evaluate", before_end=lambda: print_students(arguments.folder()))


def print_students(out: Path) -> None:
    """Students' top-1 per domain, the mean over seeds."""
    results = json.loads((out / "metrics.json").read_text())["results"]
    rows = [row for row in results if row["metric"] == "top1"]
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for domain in domains:
            values = [r["value"] for r in rows if r["method"] == method and r["domain"] == domain]
            cells.append(f"{sum(values) / len(values):.3f}")
        lines.append([method, *cells])
    print_table("Top-1 accuracy of the students", ["method", *domains], lines, left=1)
