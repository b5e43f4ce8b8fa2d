"""The run directory: its configuration, the inputs that it loads when first needed, and its JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from prismkd import __version__
from prismkd.assets import asset
from prismkd.config import METHODS, Config
from prismkd.config.load import config_from_dict
from prismkd.classes.matching import ClassLabels
from prismkd.data import LabelledImages, load_domains, load_labelled_images
from prismkd.records.directory import (
    images_of,
    is_run,
    job_folder,
    jobs_of,
    read_json,
    read_record,
    recorded_config,
    write_json,
)
from prismkd.shards.storage import is_used, remove_leftovers
from prismkd.distillation import new_student
from prismkd.distillation.student import Factory, initial_weights, name_of_module
from prismkd.errors import UserError
from prismkd.generators import TextToImage, generator_folder, load_generator, pinned, resolve_device
from prismkd.records.lock import locked
from prismkd.classes import ClassName
from prismkd.classes.matching import names_of
from prismkd.prompts.dpe import check_styles, with_defaults
from prismkd.classes.lists import classes_of
from prismkd.shards import Storage, differences
from prismkd.synthesis.synthesizer import check_channels
from prismkd.classifiers import Classifier, load_classifier, load_judge, load_teacher, weights_digest

Track = Callable[[str, int], Any]  # (description, total) -> context manager that yields a Progress
NO_MATTER = {  # settings that no result depends on
    "num_threads",
    "trust",
    *(f"prompts.language_model.{name}" for name in ("url", "key_variable", "timeout", "max_tries")),
    *(f"synthesis.{name}" for name in ("executor", "num_workers", "ray_address", "max_tries", "timeout")),
    *(f"distillation.{name}" for name in ("memory_gigabytes", "num_workers")),
}
GROWS = "synthesis.images_per_class"  # may be raised: the images that are there stay


@dataclass(frozen=True)
class Run:
    """One run directory with its configuration; models are loaded when a stage first needs them.

    Attributes:
        new_network: makes the students' networks; None: ``distillation.architecture`` names them.
    """

    config: Config
    directory: Path
    track: Track
    new_network: Factory | None = None

    @cached_property
    def classes(self) -> list[ClassName]:
        """The class list."""
        return classes_of(self.config)

    @cached_property
    def teacher(self) -> Classifier:
        """The teacher, checked against the class list."""
        return load_teacher(self.config.teacher, [item.name for item in self.classes], trust=self.config.trust)

    @cached_property
    def teacher_digest(self) -> str:
        """Which teacher this is; taken once, since all its weights are read."""
        return weights_digest(self.teacher)

    def new_student(self, in_channels: int, seed: int) -> nn.Module:
        """A student to train."""
        return new_student(self.config.distillation, len(self.classes), in_channels, seed, self.new_network)

    def load_student(self, folder: Path) -> Classifier:
        """A trained one."""
        return load_classifier(folder, self.new_network and self.new_network())

    @cached_property
    def generator(self) -> TextToImage:
        """The text-to-image model, whose images the teacher can take."""
        generator = load_generator(self.config.generator)
        check_channels(self.teacher, generator)
        return generator

    @cached_property
    def judge(self) -> Classifier | None:
        """The network whose features the image metrics are computed in."""
        source = self.config.evaluation.judge
        return load_judge(source, len(self.classes)) if source else None

    @cached_property
    def test(self) -> LabelledImages:
        """The labelled test images of every domain."""
        config = self.config.evaluation
        source = asset("test.parquet") if config.source == "pictograms" else config.source
        return load_domains(source, config.shifted, self._labels, config.id_domain, *self._test_size)

    @cached_property
    def real(self) -> LabelledImages | None:
        """The teacher's real training images, for the reference rows only."""
        return self._labelled(self.config.evaluation.real)

    @cached_property
    def real_training(self) -> LabelledImages | None:
        """Real images that students learn from: of the method ``real``, and of a mixture."""
        source = self.config.distillation.real
        return self._labelled(source) if source else self.real

    def _labelled(self, source: str) -> LabelledImages | None:
        if not source:
            return None
        path = asset("real.parquet") if source == "pictograms" else source
        return load_labelled_images(path, self._labels, *self._test_size)

    @property
    def _labels(self) -> ClassLabels:
        """The classes by all that test sets may call them."""
        return ClassLabels(names_of(self.classes))

    @property
    def _test_size(self) -> tuple[int, int | None]:
        """The wanted size of real images, and the size where none is wanted but they differ."""
        return self.config.evaluation.image_size, self.teacher.input_size

    @property
    def jobs(self) -> list[tuple[int, str]]:
        """(seed, method) in the order of work: ``more`` last, since it spends the seconds that PRISM took."""
        return jobs_of(self.config)

    def folder(self, seed: int, method: str) -> Path:
        """Where one method of one seed lives."""
        return job_folder(self.directory, seed, method)

    def images(self, seed: int, method: str) -> Storage:
        """Where its images are."""
        return images_of(self.config, self.directory, seed, method)


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
    record = directory / "run.json"
    config = _with_pinned_generator(config, directory)
    config = replace(config, prompts=with_defaults(config.prompts, config.generator.source))
    config = _with_absolute_storage(config)
    if teacher is not None:
        config = replace(config, teacher=f"module {weights_digest(teacher)}")
    if student is not None:
        config = replace(config, distillation=replace(config.distillation, architecture=name_of_module(student)))
    run = Run(config, directory, track, student)
    if teacher is not None:
        run.__dict__["teacher"] = teacher  # where cached_property looks
    _check_methods(config)
    _check_inputs(run)
    resolved = json.loads(json.dumps(asdict(config)))
    classes = json.loads(json.dumps([asdict(item) for item in run.classes]))
    if not claim:
        return run
    if is_run(directory):
        started_with = read_record(directory)
        old = config_from_dict(started_with["config"])
        found = differences(json.loads(json.dumps(asdict(old))), resolved)
        differing = [name for name in found if name not in NO_MATTER]
        if started_with["classes"] != classes:
            differing.append(f"content of the class list {config.classes}")
        if GROWS in differing and old.synthesis.images_per_class < config.synthesis.images_per_class:
            differing.remove(GROWS)
        if differing:
            raise UserError(
                f"expected the configuration that {directory} was started with, got another {', '.join(differing)}; "
                "choose another --out or delete the folder"
            )
        return run
    if is_used(directory):
        raise UserError(
            f"expected a new folder or one of prismkd, got {directory} with other files; choose another --out"
        )
    directory.mkdir(parents=True, exist_ok=True)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        record,
        {
            "schema": 1,
            "command": command,
            "config": resolved,
            "started": started,
            "version": __version__,
            "classes": classes,
        },
    )
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
            remove_leftovers(run.directory)
        yield


def silent(description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A ``Track`` that shows nothing."""
    return nullcontext(lambda count: None)


def _record_growth(run: Run) -> None:
    """Note in ``run.json`` that a run gets more images than it was started with."""
    path = run.directory / "run.json"
    record = read_json(path)
    wanted = run.config.synthesis.images_per_class
    if record["config"]["synthesis"]["images_per_class"] != wanted:
        record["config"]["synthesis"]["images_per_class"] = wanted
        write_json(path, record)


def _with_pinned_generator(config: Config, directory: Path) -> Config:
    """The commit of a hub model: the run's own where it has one, else what the name stands for now."""
    if is_run(directory) and not config.generator.revision:
        recorded = recorded_config(directory).generator
        if recorded.source == config.generator.source:
            return replace(config, generator=replace(config.generator, revision=recorded.revision))
    return replace(config, generator=pinned(config.generator))


def _with_absolute_storage(config: Config) -> Config:
    """A folder for the images means the same one to all workers, wherever they run."""
    storage = config.synthesis.storage
    if not storage or "://" in storage:
        return config
    return replace(config, synthesis=replace(config.synthesis, storage=str(Path(storage).absolute())))


def _check_methods(config: Config) -> None:
    methods = config.methods
    if (
        not methods
        or not config.seeds
        or len(set(methods)) < len(methods)
        or len(set(config.seeds)) < len(config.seeds)
    ):
        raise UserError(f"expected methods and seeds, each once, got {list(methods)} and {list(config.seeds)}")
    for method in methods:
        needed = METHODS[method].budget_of
        if not set(needed) <= set(methods):
            named = " and ".join(needed)
            raise UserError(f"expected {named} beside {method}, which spends their seconds; add them to methods")
    if "real" in methods and not (config.evaluation.real or config.distillation.real):
        raise UserError("expected evaluation.real for the method real, got an empty string; name the file or drop real")


def _check_inputs(run: Run) -> None:
    """Load what loads fast, so that a wrong path fails before anything is written."""
    _ = run.teacher, run.judge, run.real, run.real_training
    generator_folder(run.config.generator)
    resolve_device(run.config.generator.device)
    if run.new_network is None:
        new_student(replace(run.config.distillation, initial=""), len(run.classes), 1, seed=0)
    if run.config.distillation.initial:
        initial_weights(run.config.distillation.initial)
    _check_diversity(run.config, len(run.classes))
    check_styles(run.classes, run.config.prompts)
    if run.config.evaluation.source == "pictograms" and run.config.classes != "pictograms":
        raise UserError(
            "expected evaluation.source, test images of your classes, got none; name a folder of class folders, "
            "webdataset shards or Parquet files"
        )
    _ = run.test


def _check_diversity(config: Config, num_classes: int) -> None:
    """The repulsion needs two images of a class in a batch; batches are filled within a shard."""
    if config.guidance.diversity_weight > 0 and config.synthesis.shard_size < 2 * num_classes:
        raise UserError(
            f"expected synthesis.shard_size of at least {2 * num_classes}, two images of each class, for "
            f"guidance.diversity_weight, got {config.synthesis.shard_size}; raise it"
        )
