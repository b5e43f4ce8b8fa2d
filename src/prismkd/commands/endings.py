"""What a stage says at its end: what it wrote, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prismkd.commands.tables import show

if TYPE_CHECKING:
    from prismkd.runs.dataset import Dataset
    from prismkd.runs.run import Run

NEXT = {
    "prompts": "synthesize", "senses": "prompts", "adapt": "synthesize", "synthesize": "distill", "distill": "evaluate",
    "evaluate": "report",
}  # fmt: skip


def print_end(run: Run, stage: str) -> None:
    """What a stage of this run has left, and the command that goes on."""
    show(_written(run, stage))
    if stage == "repair":  # of a run that is finished, perhaps
        show(f"next: `prismkd run --out {run.directory}` does what is left, if anything is")
    else:
        print_next(str(run.directory), stage)


def print_next(out: str, stage: str) -> None:
    """The command after this one."""
    show(f"next: `prismkd {NEXT[stage]} --out {out}`, or `prismkd run --out {out}` for all that is left")


def _written(run: Run, stage: str) -> str:
    if stage == "prompts":
        return f"prompts of {_titles(run.drawn)}: {run.directory}/seed-*/*/prompts.json"
    if stage == "adapt":
        from prismkd.records.directory import adapter_folder

        return f"adapter: {adapter_folder(run.directory)}"
    if stage == "distill":
        return f"students of {_titles(run.datasets)}: {run.directory}/seed-*/*/student"
    if stage == "evaluate":
        return f"results: {run.directory / 'metrics.json'}"
    from prismkd.shards import read_manifest, scan

    parts = []
    for dataset in run.drawn:
        manifest, count = read_manifest(dataset.storage), scan(dataset.storage).num_images
        planned = manifest.num_images if manifest else 0
        parts.append(f"{count:,}{f' of {planned:,}' if count != planned else ''} of {dataset.title}")
    where = run.config.synthesis.storage or f"{run.directory}/seed-*/*/images"
    return f"images: {', '.join(parts) or 'none, as no method draws any'}, in {where}"


def _titles(datasets: Sequence[Dataset]) -> str:
    return ", ".join(dataset.title for dataset in datasets) or "no method"
