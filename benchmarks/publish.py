"""Publish a finished run: its figures as ``benchmarks/results/NAME.json``, and the tables made from that file.

Usage: python -m benchmarks.publish RUN_DIR NAME     record a run, then write the pages
       python -m benchmarks.publish                  write the pages again from the recorded results

A page's generated part stands between ``<!-- NAME:TABLE -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "pictograms.md")
METHOD_NAMES = {
    "name": "class name alone",
    "sense": "sense spelled out",
    "teacher": "teacher",
    "real": "student on the real data",
    "plain": "plain prompts",
    "more": "more (plain, PRISM's seconds)",
    "eda": "EDA only",
    "dpe": "DPE only",
    "prism": "**PRISM** (EDA + DPE)",
}
IMAGE_METRICS = ("judge_top1", "teacher_agreement", "precision", "recall", "density", "coverage", "vendi")


def record(run_dir: Path, name: str) -> Path:
    """Store a run's metrics with the commit they were made at."""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    config = json.loads((run_dir / "run.json").read_text())["config"]
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**metrics, "commit": head_commit(), "config": config}, indent=1) + "\n")
    return path


def head_commit() -> str:
    """The commit that figures are made at."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def cell(results: list[dict[str, Any]], method: str, domain: str, metric: str, digits: int = 3) -> str:
    """The mean over seeds, with the standard deviation where there are several."""
    values = [r["value"] for r in results if (r["method"], r["domain"], r["metric"]) == (method, domain, metric)]
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def student_table(data: dict[str, Any]) -> str:
    """Students' top-1: methods by domains."""
    results = data["results"]
    domains = list(dict.fromkeys(r["domain"] for r in results if r["metric"] == "top1"))
    methods = [m for m in METHOD_NAMES if any(r["method"] == m for r in results)]
    rows = [[METHOD_NAMES[m], *[cell(results, m, d, "top1") for d in domains]] for m in methods]
    return table(["top-1 of the student on", *domains], rows)


def image_table(data: dict[str, Any]) -> str:
    """The image sets: methods by metrics."""
    results = data["results"]
    methods = [m for m in METHOD_NAMES if any(r["method"] == m and r["domain"] == "images" for r in results)]
    rows = [[METHOD_NAMES[m], *[cell(results, m, "images", k) for k in IMAGE_METRICS]] for m in methods]
    return table(["images of", *[k.replace("_", " ") for k in IMAGE_METRICS]], rows)


def cost_table(data: dict[str, Any]) -> str:
    """Images and sampling seconds, mean over seeds."""
    rows = []
    for method in METHOD_NAMES:
        timings = [t for t in data["timings"] if t["method"] == method and t["stage"] == "synthesize"]
        if timings:
            seconds, images = mean(t["seconds"] for t in timings), mean(t["images"] for t in timings)
            rows.append([METHOD_NAMES[method], f"{images:.0f}", f"{seconds:.0f}", f"{images / seconds:.1f}"])
    for stage in ("senses", "calibration"):
        for t in data["timings"]:
            if t["stage"] == stage:
                rows.append([f"{stage}, once per run", str(t["images"]), f"{t['seconds']:.0f}", ""])
    return table(["sampling", "images", "seconds", "images per second"], rows)


def knob_table(data: dict[str, Any]) -> str:
    """Settings of guidance and style by teacher-side quantities; the best fidelity of each kind of prompt in bold."""
    best = {kind: max(r["fidelity"] for r in data["rows"] if r["prompts"] == kind) for kind in ("plain", "DPE")}
    rows = []
    for r in data["rows"]:
        share = "" if r["id_share"] is None else f"{r['id_share']:.2f}"
        fidelity = f"{r['fidelity']:.3f}"
        fidelity = f"**{fidelity}**" if r["fidelity"] == best[r["prompts"]] else fidelity
        rows.append([r["prompts"], share, f"{r['strength']:.1f}", f"{r['agreement']:.3f}",
                     f"{r['agreement_harsh']:.3f}", f"{r['energy']:.2f}", f"{r['vendi']:.2f}", fidelity])  # fmt: skip
    header = ["prompts", "id share", "strength", "agreement", "on harsh views", "energy", "Vendi", "fidelity"]
    return table(header, rows)


def provenance(data: dict[str, Any]) -> str:
    """Where the figures come from."""
    seeds = ", ".join(str(seed) for seed in data["seeds"])
    return (f"`{data['command']}`, seeds {seeds}, {data['hardware']}, {data['date']}, "
            f"commit `{data['commit'][:10]}`; mean ± standard deviation over seeds.")  # fmt: skip


TABLES = {
    "students": student_table,
    "images": image_table,
    "cost": cost_table,
    "settings": knob_table,
    "provenance": provenance,
}


def fill(page: str) -> str:
    """Replace every generated part of a page by what the recorded results say now."""

    def generated(match: re.Match[str]) -> str:
        name, kind = match["name"], match["kind"]
        data = json.loads((RESULTS / f"{name}.json").read_text())
        return f"<!-- {name}:{kind} -->\n{TABLES[kind](data)}\n<!-- end -->"

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
