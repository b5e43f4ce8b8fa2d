"""Opening a run: everything that can be checked cheaply is checked, then its folder is claimed or continued in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from prismkd import __version__
from prismkd.classifiers import Classifier, weights_digest
from prismkd.config import Config
from prismkd.config.load import check_diversity, check_methods, config_from_dict
from prismkd.distillation import new_student
from prismkd.distillation.student import Factory, initial_weights, name_of_module
from prismkd.errors import UserError
from prismkd.generators import generator_folder, pinned, resolve_device
from prismkd.progress import Track
from prismkd.prompts.dpe import check_styles, with_defaults
from prismkd.records.directory import (
    check_new,
    is_run,
    read_json,
    read_record,
    recorded_config,
    write_json,
)
from prismkd.records.lock import locked
from prismkd.runs.run import Run
from prismkd.shards import differing_keys
from prismkd.shards.storage import remove_temporary_files

# A run may go on with others of these: they say who draws and how often it is tried, not what is drawn.
SETTINGS_WITHOUT_EFFECT_ON_RESULTS = {
    "num_threads",
    "trust",
    *(f"prompts.language_model.{name}" for name in ("url", "key_variable", "timeout", "max_tries")),
    *(f"synthesis.{name}" for name in ("executor", "num_workers", "ray_address", "max_tries", "timeout")),
    *(f"distillation.{name}" for name in ("memory_gigabytes", "num_workers", "tracker")),
}
GROWING_SETTING = "synthesis.images_per_class"  # may be raised: the images that are there stay


def open_run(
    config: Config,
    directory: Path,
    command: str,
    track: Track,
    *,
    claim: bool = True,
    teacher: Classifier | None = None,
    student: Factory | None = None,
) -> Run:
    """Check everything that can be checked cheaply, then claim ``directory`` or continue in it.

    With ``claim`` off nothing is written, and ``directory`` is only a name. A ``teacher`` takes the place of the one
    that ``config`` names, and what ``student`` makes that of its architecture.

    Raises:
        UserError: bad input, or the directory belongs to a run with another configuration.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    # First what a setting means now, since that is recorded and compared with later calls.
    config = _with_pinned_generator(config, directory)
    config = replace(config, prompts=with_defaults(config.prompts, config.generator.source))
    config = _with_absolute_storage(config)
    if teacher is not None:
        # A module has no name to open it by. Its digest tells whether a later call brings the same one.
        config = replace(config, teacher=f"module {weights_digest(teacher)}")
    if student is not None:
        config = replace(config, distillation=replace(config.distillation, architecture=name_of_module(student)))
    run = Run(config, track, student, directory=directory)
    if teacher is not None:
        run.__dict__["teacher"] = teacher  # where cached_property looks
    check_methods(config)
    _check_inputs(run)
    if claim:
        _continue(run) if is_run(directory) else _start(run, command)
    return run


@contextmanager
def held(run: Run, lock: str = "run") -> Iterator[None]:
    """Hold the run, or as one rank of an array job a part of it, while the block works on it.

    Raises:
        UserError: another process holds it.
    """
    with locked(run.directory, lock):
        _record_growth(run)
        if lock == "run":
            # Only who is alone in the folder may: of other ranks these are files that are being written.
            remove_temporary_files(run.directory)
        yield


def _start(run: Run, command: str) -> None:
    """Claim a new folder by writing its ``run.json``."""
    directory = run.directory
    check_new(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(
        directory / "run.json",
        {
            "schema": 1,
            "command": command,
            "config": asdict(run.config),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
            "classes": [asdict(item) for item in run.classes],
        },
    )


def _continue(run: Run) -> None:
    """Refuse another configuration than the one that the folder was started with; only more images may be asked for."""
    recorded = read_record(run.directory)
    old = config_from_dict(recorded["config"])
    changed = differing_keys(_as_json(asdict(old)), _as_json(asdict(run.config)))
    changed = [name for name in changed if name not in SETTINGS_WITHOUT_EFFECT_ON_RESULTS]
    # The file of a class list may have changed under the same name.
    if recorded["classes"] != _as_json([asdict(item) for item in run.classes]):
        changed.append(f"content of the class list {run.config.classes}")
    # Fewer would leave images that no plan of the run has.
    if GROWING_SETTING in changed and old.synthesis.images_per_class < run.config.synthesis.images_per_class:
        changed.remove(GROWING_SETTING)
    if changed:
        raise UserError(
            f"expected the configuration that {run.directory} was started with, got another {', '.join(changed)}; "
            "choose another --out or delete the folder"
        )


def _as_json(data: object) -> Any:
    """What ``data`` is after it has been written and read: tuples become lists."""
    return json.loads(json.dumps(data))


def _record_growth(run: Run) -> None:
    """Note in ``run.json`` that a run gets more images than it was started with."""
    path = run.directory / "run.json"
    record = read_json(path)
    images_per_class = run.config.synthesis.images_per_class
    if record["config"]["synthesis"]["images_per_class"] != images_per_class:
        record["config"]["synthesis"]["images_per_class"] = images_per_class
        write_json(path, record)


def _with_pinned_generator(config: Config, directory: Path) -> Config:
    """The commit of a hub model: the run's own where it has one, else what the name stands for now."""
    if is_run(directory) and not config.generator.revision:
        recorded = recorded_config(directory).generator
        # Else the hub's newest commit would make a resumed run another one.
        if recorded.source == config.generator.source:
            return replace(config, generator=replace(config.generator, revision=recorded.revision))
    return replace(config, generator=pinned(config.generator))


def _with_absolute_storage(config: Config) -> Config:
    """A folder for the images means the same one to all workers, wherever they run."""
    storage = config.synthesis.storage
    if not storage or "://" in storage:
        return config
    return replace(config, synthesis=replace(config.synthesis, storage=str(Path(storage).absolute())))


def _check_inputs(run: Run) -> None:
    """Load what loads fast, so that a wrong path fails before anything is written."""
    _ = run.teacher, run.judge, run.real, run.real_training
    generator_folder(run.config.generator)
    resolve_device(run.config.generator.device)
    # Built to be thrown away: an unknown architecture should not show after days of drawing.
    if run.new_network is None:
        new_student(replace(run.config.distillation, initial=""), len(run.classes), 1, seed=0)
    if run.config.distillation.initial:
        initial_weights(run.config.distillation.initial)
    check_diversity(run.config, len(run.classes))
    check_styles(run.classes, run.config.prompts)
    # The default test set is of the embedded classes and can't measure others.
    if run.config.evaluation.source == "pictograms" and run.config.classes != "pictograms":
        raise UserError(
            "expected evaluation.source, test images of your classes, got none; name a folder of class folders, "
            "webdataset shards or Parquet files"
        )
    _ = run.test
