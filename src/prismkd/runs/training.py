"""The distill stage: every dataset's students, on one device or on all processes of `torchrun`."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import torch
from accelerate import PartialState

from prismkd import __version__
from prismkd.classifiers import save_classifier
from prismkd.config import Config, DistillationConfig
from prismkd.distillation import TrainingSet, train
from prismkd.distillation.cache import remove_caches
from prismkd.distillation.student import check_student
from prismkd.errors import warn
from prismkd.files import write_json
from prismkd.progress import silent
from prismkd.records.digests import student_digest
from prismkd.records.directory import LABELS_STUDENT, STUDENT
from prismkd.runs.aside import (
    CHECKPOINT,
    TRAINING,
    begin_training,
    end_training,
    is_trained,
    recipe_record,
    set_other_inputs_aside,
)
from prismkd.runs.dataset import Dataset, RealImages
from prismkd.runs.run import Run
from prismkd.runs.tracking import tracked


def distill_students(run: Run) -> None:
    """Train every dataset's students; where images were added since, new ones.

    Under `torchrun` or `accelerate launch` all processes train together, and the first one alone writes.
    """
    run.inputs.check_teacher()  # of each process, which may be on a machine of its own
    processes = PartialState(cpu=not torch.accelerator.is_available())  # else, without a GPU, each would be alone
    untrained = {
        dataset: [name for name, recipe in recipes(run.config).items() if not is_trained(dataset, name, recipe)]
        for dataset in run.datasets
    }
    if any(names and isinstance(dataset, RealImages) for dataset, names in untrained.items()):
        # Now: the method real comes last, and the students before it may take days.
        check_real(run)
    processes.wait_for_everyone()  # all have looked before the first student appears
    for dataset, names in untrained.items():
        if names:
            _distill_dataset(dataset, names, processes)
        if processes.is_main_process:
            _clear_up(dataset)
    if processes.is_main_process and not run.config.distillation.keep_cache:
        remove_caches(run.directory)  # of real images, which all datasets share


def _distill_dataset(dataset: Dataset, names: list[str], processes: PartialState) -> None:
    """Train these of a dataset's students."""
    data = dataset.training_set()
    for name in names:
        if processes.is_main_process:
            set_other_inputs_aside(dataset, name, recipes(dataset.run.config)[name])
            begin_training(dataset, name, recipes(dataset.run.config)[name])
        processes.wait_for_everyone()
        _distill_student(dataset, name, data, is_writer=processes.is_main_process)
        processes.wait_for_everyone()


def _clear_up(dataset: Dataset) -> None:
    """Delete what only trainings need, also of students that are there: their command may have been killed before."""
    for name in recipes(dataset.run.config):
        if (dataset.folder / name / TRAINING).is_file():
            end_training(dataset.folder / name)
    if not dataset.run.config.distillation.keep_cache:
        remove_caches(dataset.folder)


def check_real(run: Run) -> None:
    """Decode the real images that students learn from.

    Raises:
        UserError: some don't decode; it says how many, and names the first.
    """
    if run.real_training is not None:
        run.real_training.check()


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
    side = run.world.image_shape(shape)[-1]
    network = run.new_student(shape[0], dataset.seed, side)
    student = run.trained_form(network, shape[0])
    check_student(student, run.world.image_shape(shape), len(run.classes))
    start, title = time.monotonic(), f"{name} {dataset.title}"
    with (
        tracked(config.tracker if is_writer else "", run.directory, title, asdict(config)) as on_row,
        (run.track if is_writer else silent)(title, config.num_steps) as progress,
    ):
        log = train(student, run.teacher, data, config, dataset.seed, folder / CHECKPOINT, progress, on_row)
    if not is_writer:
        return
    warnings = log.warnings([item.name for item in run.classes])
    for text in warnings:
        warn(f"{title}: {text}")
    save_classifier(folder, network, run.student_config(shape[0], side))
    write_json(folder / "log.json", {"seconds": time.monotonic() - start, "images": len(data.images),
                                     **log.to_dict(), "warnings": warnings,
                                     "recipe": recipe_record(dataset, config),
                                     "inputs": run.inputs.of_student(dataset, config),
                                     "digest": student_digest(folder), "version": __version__})  # fmt: skip
    # Last: a kill before this costs a look at the checkpoint, one after it nothing.
    end_training(folder)
