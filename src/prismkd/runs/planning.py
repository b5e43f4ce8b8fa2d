"""The prompts stage: senses and contents are chosen once per run, and each dataset gets its plan."""

from __future__ import annotations

from dataclasses import asdict

from prismkd.config import METHODS
from prismkd.errors import warn
from prismkd.files import write_json
from prismkd.generators import generator_folder
from prismkd.prompts.length import too_long
from prismkd.records.directory import read_json
from prismkd.records.shapes import PromptsRecord
from prismkd.runs.dataset import DrawnImages
from prismkd.runs.run import Run

EXAMPLES_PER_CLASS = 3


def choose_senses(run: Run) -> None:
    """Choose what each class means; writes ``senses.json``."""
    _ = run.senses


def write_plans(run: Run) -> None:
    """Choose senses and contents, and write every dataset's ``prompts.json``: its plan, with examples."""
    num_images = run.config.synthesis.images_per_class * len(run.classes)
    written = []
    for dataset in run.drawn:
        path = dataset.folder / "prompts.json"
        if not path.is_file() or read_json(path, PromptsRecord)["num_images"] < num_images:
            _write_plan(dataset, num_images)
            written.append(dataset)
    _warn_if_too_long(run, written, num_images)


def _warn_if_too_long(run: Run, written: list[DrawnImages], num_images: int) -> None:
    """One warning for all plans: the seeds of a method have the same prompts, and most methods some in common."""
    config = run.config.generator
    source = generator_folder(config) or config.source
    by_method = {dataset.method: dataset for dataset in written}
    found = [too_long(dataset.plan, num_images, source, config.revision) for dataset in by_method.values()]
    worst = max((plan for plan in found if plan), key=lambda plan: plan.count, default=None)
    if worst:
        warn(str(worst))


def _write_plan(dataset: DrawnImages, num_images: int) -> None:
    run, path = dataset.run, dataset.folder / "prompts.json"
    # A plan that is there stays when images are added: its first prompts are those of the images that there are.
    plan = dataset.plan if path.is_file() else run.plan(dataset.method, dataset.seed)
    even = dataset.pilot_size(num_images) or num_images
    if METHODS[dataset.method].in_rounds and run.config.rounds.allocate:
        even = num_images // len(run.classes) // run.config.rounds.num_rounds * len(run.classes)
    shown = min(EXAMPLES_PER_CLASS * len(run.classes), even)
    write_json(path, {"plan": plan.to_dict(), "plan_hash": plan.hash(), "num_images": num_images,
                      "examples": [asdict(plan[index]) for index in range(shown)]})  # fmt: skip
