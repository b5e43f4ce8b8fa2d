"""What is interrupted: every command, from the folder that the commands before it leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SETTINGS, UNMEASURED = "--config ../world/run.toml", "--config ../world/unmeasured.toml"
MAX_WORKER_ROUNDS = 3  # of each fault, where workers are started: each of them imports torch, for seconds


@dataclass(frozen=True)
class Stage:
    """A command and where it starts.

    Attributes:
        name: as the tables call it.
        words: behind ``prismkd``; given in a folder in which ``run`` is the run.
        before: the stage in whose result it starts; empty: in an empty folder.
        prepare: what is done to that result first.
        workers: whether worker processes draw.
        datasets: what ``verify`` reads at the end.
        writes_once: whether the command refuses to write where a finished result is.
    """

    name: str
    words: str
    before: str = ""
    prepare: Callable[[Path], None] | None = None
    workers: bool = False
    datasets: tuple[str, ...] = ()
    writes_once: bool = False


def _damage(folder: Path) -> None:
    """A shard that is cut off, one whose record is gone, and one that is no longer there."""
    plain, prism = (folder / "run" / "seed-0" / method / "images" for method in ("plain", "prism"))
    tar = plain / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-2000])
    (plain / "ledger" / "shard-000001.json").unlink()
    (prism / "shard-000000.tar").unlink()


def _copy_run(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "other")


RUN = ("run",)
ADAPTED = ("--methods plain prism adapted --adaptation.num-steps 2 --adaptation.batch-size 2 --adaptation.rank 2 "
           "--adaptation.num-check-images 12 --adaptation.check-every 1")  # fmt: skip
IN_ROUNDS = "--methods plain prism-rounds --prompts.pilot-share 0 --rounds.num-rounds 3 --rounds.allocate"
STAGES = (
    Stage("senses", f"senses {SETTINGS} --out run"),
    Stage("prompts", "prompts --out run", "senses"),
    Stage("plan", f"plan {SETTINGS} --out run"),
    Stage("synthesize", "synthesize --out run", "prompts", datasets=RUN),
    Stage("synthesize, 2 workers", "synthesize --out run --synthesis.num-workers 2", "prompts", workers=True,
          datasets=RUN),
    Stage("synthesize, rank 0 of 2", "synthesize --out run --rank 0 --world 2", "plan"),
    Stage("synthesize, rank 1 of 2", "synthesize --out run --rank 1 --world 2", "synthesize, rank 0 of 2"),
    Stage("distill", "distill --out run", "synthesize"),
    Stage("distill, images in a file", "distill --out run --distillation.memory-gigabytes 0", "synthesize"),
    Stage("evaluate", "evaluate --out run", "distill"),
    Stage("report", "report --out run", "evaluate"),
    Stage("run", f"run {SETTINGS} --out run", datasets=RUN),
    Stage("run with an adapter", f"run {SETTINGS} --out run {ADAPTED}", datasets=RUN),
    Stage("run in rounds", f"run {SETTINGS} --out run {IN_ROUNDS}", datasets=RUN),
    Stage("run without test images", f"run {UNMEASURED} --out run", datasets=RUN),
    Stage("more images", "run --out run --synthesis.images-per-class 5", "report", datasets=RUN),
    Stage("distill with other settings", "distill --out run --distillation.num-steps 3", "report"),
    Stage("evaluate with other settings", "evaluate --out run --evaluation.nearest-k 2", "report"),
    Stage("repair", "repair --out run", "report", _damage, datasets=RUN),
    Stage("survival", "survival --out run", "report"),
    *(Stage(f"export to {layout}", f"export --out run --to {layout} --dest exported", "report", writes_once=True)
      for layout in ("imagefolder", "hf", "webdataset", "safetensors", "onnx", "student")),
    Stage("merge", "merge --dest merged --from run/seed-0/plain/images run/seed-0/prism/images", "report",
          datasets=("merged",)),
    Stage("report of two runs", "report run other --dest two.html", "report", _copy_run, writes_once=True),
    Stage("compare", "compare run --methods plain prism", "report"),
    Stage("status", "status --out run", "report"),
    Stage("verify", "verify --out run", "report"),
    Stage("predict", "predict exported ../world/icons", "export to student"),
    Stage("doctor", f"doctor {SETTINGS}", "report"),
    Stage("push-to-hub, dry", "push-to-hub exported --repo some/name", "export to student"),
)  # fmt: skip
BY_NAME = {stage.name: stage for stage in STAGES}


def needed(names: list[str]) -> list[Stage]:
    """The stages of these names and those before them, in the order of the table."""
    wanted = set(names)
    for stage in reversed(STAGES):
        if stage.name in wanted and stage.before:
            wanted.add(stage.before)
    return [stage for stage in STAGES if stage.name in wanted]
