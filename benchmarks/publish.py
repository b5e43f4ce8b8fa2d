"""Publish a finished run: its figures as ``benchmarks/results/NAME.json``, and the tables made from that file.

Usage: python -m benchmarks.publish RUN_DIR NAME     record a run, then write the pages
       python -m benchmarks.publish                  write the pages again from the recorded results

The pages are README.md and those of docs/ in ``OF_DOCS``. A generated part of one stands between
``<!-- NAME:TABLE -->`` and ``<!-- end -->``, and is the table ``TABLE`` (``tables.py``) of
``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.tables import PARTS, TABLES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NOT_YET = "Not measured yet."  # in the place of a table
OF_DOCS = (
    "pictograms", "eda", "adaptation", "beyond", "dpe", "synthesis", "teachers", "distillation", "costs", "security",
)  # fmt: skip
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in OF_DOCS))


def record(run_dir: Path, name: str) -> Path:
    """Store a run's metrics, with its configuration and the commit that is checked out, as ``results/NAME.json``."""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    config = json.loads((run_dir / "run.json").read_text())["config"]
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**metrics, "commit": head_commit(), "config": config}, indent=1) + "\n")
    return path


def write_results(name: str, command: str, seeds: Sequence[int], data: dict[str, Any]) -> None:
    """Store a benchmark's ``data`` as ``results/NAME.json``, with what made it, on what, when and at which commit."""
    from prismkd.runs.measuring import hardware  # here, since it imports torch, which writing the pages needs not

    provenance = {"schema": 1, "command": command, "seeds": list(seeds), "hardware": hardware(),
                  "date": datetime.now(UTC).date().isoformat(), "commit": head_commit()}  # fmt: skip
    (RESULTS / f"{name}.json").write_text(json.dumps({**data, **provenance}, indent=1) + "\n")


def head_commit() -> str:
    """The commit that is checked out, which the figures are taken to be made at."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def fill(page: str) -> str:
    """Replace every generated part of a page by what the recorded results say now."""

    def generated(match: re.Match[str]) -> str:
        name, kind = match["name"], match["kind"]
        path = RESULTS / f"{name}.json"
        data = json.loads(path.read_text()) if path.is_file() else {}
        measured = data and (kind not in PARTS or PARTS[kind] in data)
        return f"<!-- {name}:{kind} -->\n{TABLES[kind](data) if measured else NOT_YET}\n<!-- end -->"

    return re.sub(r"<!-- (?P<name>\w+):(?P<kind>\w+) -->\n.*?<!-- end -->", generated, page, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Record a run if one is named, then write the pages."""
    if len(arguments) == 2:
        print(record(Path(arguments[0]), arguments[1]))
    elif arguments:
        print(__doc__, file=sys.stderr)
        return 2
    for page in PAGES:
        page.write_text(fill(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
