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
from prismkd.classifiers.classifier import answer
from prismkd.config import METHODS, Config
from prismkd.config.embedded import PICTOGRAMS, has_embedded_classes, resolved
from prismkd.config.load import check_diversity, check_methods
from prismkd.config.stages import GROWING_SETTINGS, MAY_CHANGE, SETTINGS_WITHOUT_EFFECT_ON_RESULTS, may_change, stage_of
from prismkd.distillation import new_student
from prismkd.distillation.student import Factory, check_student, initial_weights, name_of_module, start_from
from prismkd.errors import UserError
from prismkd.files import remove_temporary_files, write_json
from prismkd.generators import generator_folder, pinned, resolve_device
from prismkd.generators.lora import adapters_of
from prismkd.progress import Track
from prismkd.prompts.dpe import check_styles, with_defaults
from prismkd.records.digests import note_digests
from prismkd.records.directory import adapter_folder, check_new, is_run, read_record, recorded_config
from prismkd.records.lock import locked
from prismkd.runs.aside import set_stale_aside
from prismkd.runs.inputs import is_moved
from prismkd.runs.run import Run
from prismkd.runs.training import recipes
from prismkd.shards import differing_keys


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
    config = _with_pinned_generator(resolved(config), directory)
    config = replace(config, prompts=with_defaults(config.prompts, config.generator.source))
    config = _with_absolute_storage(config)
    if teacher is not None:
        # A module has no name to open it by. Its digest tells whether a later call brings the same one.
        config = replace(config, teacher=f"module {weights_digest(teacher)}")
    if student is not None:
        if any(METHODS[method].in_rounds for method in config.methods):
            raise UserError(
                "expected a student by name for methods in rounds, whose guides every worker opens, got a network of "
                "your own; give distillation.architecture instead, or leave these methods out"
            )
        config = replace(config, distillation=replace(config.distillation, architecture=name_of_module(student)))
    run = Run(config, track, student, directory=directory, command=command, is_claimed=claim)
    if teacher is not None:
        run.__dict__["teacher"] = teacher  # where cached_property looks
    check_methods(config)
    if not is_run(directory):
        _check_embedded(config)
    _check_inputs(run)
    if claim:
        _continue(run) if is_run(directory) else _start(run)
        run.inputs.check_teacher()
    return run


@contextmanager
def held(run: Run, lock: str = "run") -> Iterator[None]:
    """Hold the run, or as one rank of an array job a part of it, while the block works on it.

    Raises:
        UserError: another process holds it.
    """
    with locked(run.directory, lock):
        _record_changes(run)
        note_digests(run.directory, run.inputs.teacher, run.command)
        if lock == "run":
            # Only who is alone in the folder may: of other ranks these are files that are being written.
            remove_temporary_files(run.directory)
            set_stale_aside(run, recipes(run.config))
        yield


def _start(run: Run) -> None:
    """Claim a new folder by writing its ``run.json``."""
    directory = run.directory
    check_new(directory)
    write_json(
        directory / "run.json",
        {
            "schema": 1,
            "command": run.command,
            "config": asdict(run.config),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
            "classes": [asdict(item) for item in run.classes],
        },
    )


def _continue(run: Run) -> None:
    """Refuse other settings than the run's, but for those that a stage is done again with, and for added work."""
    changes, recorded = _changes(run), recorded_config(run.directory)
    had_rounds = any(METHODS[method].in_rounds for method in recorded.methods)
    # The file of a class list may have changed under the same name, or have another name now.
    has_its_classes = read_record(run.directory)["classes"] == _as_json([asdict(item) for item in run.classes])
    refused = [
        name for name, (old, new) in changes.items()
        if not (may_change(name, old, new) or is_moved(run, name, old) or (name == "classes" and has_its_classes)
                or (stage_of(name) == "adapt" and not adapter_folder(run.directory).exists())
                or (name.startswith("rounds.") and not had_rounds))
    ]  # fmt: skip
    if not has_its_classes:
        refused.append(f"content of the class list {run.config.classes}")
    if refused:
        raise UserError(
            f"expected the settings that the prompts and images of {run.directory} were made with, got another "
            f"{', '.join(refused)}; choose another --out for these ({MAY_CHANGE})"
        )
    if changes.keys() & set(GROWING_SETTINGS):
        # Before the added work is recorded, which can't be taken back.
        run.inputs.check_generator()


def _changes(run: Run) -> dict[str, tuple[Any, Any]]:
    """The settings, by their names, that are others than the recorded ones: old and new value, as JSON has them."""
    old, new = _as_json(asdict(recorded_config(run.directory))), _as_json(asdict(run.config))
    names = [name for name in differing_keys(old, new) if name not in SETTINGS_WITHOUT_EFFECT_ON_RESULTS]
    return {name: (_table(old, name)[_last(name)], _table(new, name)[_last(name)]) for name in names}


def _table(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """The table in which the setting of a dotted name is."""
    for part in name.split(".")[:-1]:
        settings = settings[part]
    return settings


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _as_json(data: object) -> Any:
    """What ``data`` is after it has been written and read: tuples become lists."""
    return json.loads(json.dumps(data))


def _record_changes(run: Run) -> None:
    """Make ``run.json`` hold the settings that are in force now, and when and by which command they became so."""
    changes = _changes(run)
    if not changes:
        return
    record = read_record(run.directory)
    for name, (_, new) in changes.items():
        _table(record["config"], name)[_last(name)] = new
    record.setdefault("changes", []).append(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": run.command,
            "settings": {name: {"from": old, "to": new} for name, (old, new) in changes.items()},
        }
    )
    write_json(run.directory / "run.json", record)


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


def _check_embedded(config: Config) -> None:
    """The embedded images are of the embedded classes, and of no use for others."""
    named = {"evaluation.source": config.evaluation.source, "evaluation.real": config.evaluation.real,
             "distillation.real": config.distillation.real}  # fmt: skip
    for name, source in named.items():
        if source == PICTOGRAMS and not has_embedded_classes(config):
            raise UserError(
                f"expected {name} of your classes, got the embedded images; name class folders, webdataset shards or "
                "Parquet files, or leave it out"
            )


def _check_inputs(run: Run) -> None:
    """Load what loads fast, so that a wrong path fails before anything is written."""
    _ = run.teacher, run.judge, run.real, run.real_training
    generator_folder(run.config.generator)
    adapters_of(run.config.generator.lora)
    resolve_device(run.config.generator.device)
    _check_student(run)
    check_diversity(run.config, len(run.classes))
    check_styles(run.classes, run.config.prompts)
    if run.config.evaluation.source:
        _ = run.test
    _check_evaluation_size(run)


def _check_evaluation_size(run: Run) -> None:
    """Show teacher and judge an image of the size that test images are cut to, which may be too small for them."""
    side = run.config.evaluation.image_size
    for role, network in (("teacher", run.teacher), ("judge", run.judge)):
        if side and network is not None and network.num_classes:
            device = next(network.parameters(), torch.empty(0)).device
            image = torch.full((1, network.in_channels, side, side), 0.5, device=device)
            answer(network, image, role, "raise evaluation.image_size")


def _check_student(run: Run) -> None:
    """Build a student to be thrown away: one that can't be trained should not show after days of drawing."""
    recipe = run.config.distillation
    weights = initial_weights(recipe.initial) if recipe.initial else {}
    if run.new_network is not None:
        return
    channels = 3  # whatever the generator draws is in color
    side = run.world.side or run.config.generator.image_size or None
    student = new_student(replace(recipe, initial=""), len(run.classes), channels, seed=0, side=side)
    if side:
        check_student(run.trained_form(student, channels), (channels, side, side), len(run.classes))
    if weights:
        start_from(student, weights, recipe.initial, say=lambda _: None)  # the training says it
