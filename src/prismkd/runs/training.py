"""The distill stage: every dataset's students, on one device or on all processes of `torchrun`."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import PartialState

from prismkd.classifiers import save_classifier
from prismkd.config import Config, DistillationConfig
from prismkd.distillation import TrainingSet, train
from prismkd.distillation.student import check_student
from prismkd.errors import warn
from prismkd.progress import silent
from prismkd.records.directory import LABELS_STUDENT, STUDENT, read_json, write_json
from prismkd.runs.dataset import Dataset
from prismkd.runs.run import Run
from prismkd.runs.tracking import tracked


def distill_students(run: Run) -> None:
    """Train every dataset's students; where images were added since, new ones.

    Under `torchrun` or `accelerate launch` all processes train together, and the first one alone writes.
    """
    processes = PartialState(cpu=not torch.accelerator.is_available())  # else, without a GPU, each would be alone
    untrained = {
        dataset: [name for name in recipes(run.config) if not _is_trained(dataset, name)] for dataset in run.datasets
    }
    processes.wait_for_everyone()  # all have looked before the first student appears
    for dataset, names in untrained.items():
        if not names:
            continue
        data = dataset.training_set()
        for name in names:
            if processes.is_main_process:
                _set_aside(dataset.folder / name)
            processes.wait_for_everyone()
            _distill_student(dataset, name, data, is_writer=processes.is_main_process)
            processes.wait_for_everyone()


def recipes(config: Config) -> dict[str, DistillationConfig]:
    """How each of a dataset's students is trained, by its folder's name."""
    found = {STUDENT: config.distillation}
    if config.evaluation.cas:
        # The same recipe but for the teacher: the score is of the images alone.
        found[LABELS_STUDENT] = replace(config.distillation, hard_label_weight=1.0, feature_weight=0.0)
    return found


def _distill_student(dataset: Dataset, name: str, data: TrainingSet, *, is_writer: bool) -> None:
    run, folder = dataset.run, dataset.folder / name
    config, shape = recipes(run.config)[name], data.images.image_shape
    student = run.new_student(shape[0], dataset.seed)
    check_student(student, shape, len(run.classes))
    start, title = time.monotonic(), f"{name} {dataset.title}"
    with (
        tracked(config.tracker if is_writer else "", run.directory, title, asdict(config)) as on_row,
        (run.track if is_writer else silent)(title, config.num_steps) as progress,
    ):
        log = train(student, run.teacher, data, config, dataset.seed, folder / "checkpoint.pt", progress, on_row)
    if not is_writer:
        return
    warnings = log.warnings([item.name for item in run.classes])
    for text in warnings:
        warn(f"{title}: {text}")
    save_classifier(folder, student, {"architecture": config.architecture, "num_classes": len(run.classes),
                                      "in_channels": shape[0]})  # fmt: skip
    write_json(folder / "log.json", {"seconds": time.monotonic() - start, "images": len(data.images),
                                     **log.to_dict(), "warnings": warnings})  # fmt: skip
    # Last: a kill before this costs a look at the checkpoint, one after it nothing.
    (folder / "checkpoint.pt").unlink()


def _is_trained(dataset: Dataset, name: str) -> bool:
    """Whether there is a student of all images that there are now."""
    log = dataset.folder / name / "log.json"
    return log.is_file() and read_json(log)["images"] == dataset.num_images


def _set_aside(folder: Path) -> None:
    """Keep the student of fewer images, where there is one, and its evaluation, under another name."""
    if not (folder / "log.json").is_file():
        return
    num_images = read_json(folder / "log.json")["images"]
    kept, number = folder.with_name(f"{folder.name}-{num_images}-images"), 1
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}-{num_images}-images-{number}")
    warn(f"images were added: the {folder.name} of {num_images} is now in {kept}, and a new one is trained")
    evaluation = folder.parent / "evaluation.json"
    if evaluation.is_file():
        # Before the folder is moved: a kill in between must not leave old figures beside a new student.
        evaluation.replace(folder / "evaluation.json")
    folder.replace(kept)
