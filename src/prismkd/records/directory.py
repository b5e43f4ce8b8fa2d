"""What lies where in a run directory, and how its JSON files are read and written; imports no torch.

What the files hold is in ``records/shapes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from prismkd.config import Config
from prismkd.config.authority import check_storage, without_reserved
from prismkd.config.embedded import resolved
from prismkd.config.load import config_from_dict
from prismkd.config.methods import in_order_of_work
from prismkd.config.ranges import check_value
from prismkd.config.retired import without_retired
from prismkd.errors import UserError
from prismkd.files import is_used
from prismkd.files.documents import REMEDY, check_shape, read_document
from prismkd.records.shapes import RunRecord
from prismkd.shards import Storage

STUDENT = "student"  # of a method, in its folder
ROUND = "round.json"  # what a guide was trained on, and what it decided, beside it
ADAPTATION = "adaptation.json"  # how the adapter beside it was trained
TRACKER = "tracker"  # of a run, in which experiment trackers write files of their own
# The stage that writes a file, for whoever misses it; and that makes it anew where it is deleted
WRITTEN_BY = {
    "senses.json": "senses", "candidates.json": "senses", "contents.json": "prompts", "prompts.json": "prompts",
    "adaptation.json": "adapt", "calibration.json": "synthesize", "allocation.json": "synthesize",
    "round.json": "synthesize", "budget.json": "synthesize",
    "synthesis.json": "synthesize", "log.json": "distill", "training.json": "distill", "plain.json": "evaluate",
    "diverse.json": "evaluate", "evaluation.json": "evaluate", "references.json": "evaluate",
    "metrics.json": "evaluate", "survival.json": "survival",
}  # fmt: skip
BRING_BACK = "bring it back from a copy, or choose another --out: without it nobody knows what the folder's images are"
LABELS_STUDENT = "student-of-labels"  # the one that learned from images and labels alone
# Synthetic images that no student learns from, once per run: their folder's name, and their domain in the results
HELD_OUT = {"plain": "synthetic plain", "diverse": "synthetic diverse"}

T = TypeVar("T")


def run_folder(out: str | Path) -> Path:
    """The folder of a run. It must be on a disk, since object stores have neither locks nor renaming.

    Raises:
        UserError: it is a URL, or a name that no record can hold.
    """
    check_value(str(out), str, "the run's folder")
    if "://" in str(out):
        raise UserError(
            f"expected a folder on a disk for a run, got {out}; choose one, and give that URL to synthesis.storage, "
            "where the images go"
        )
    return Path(out)


def lasting(url: str) -> Storage:
    """A folder or a store whose files are there when the command has ended.

    Raises:
        UserError: it is this process's memory.
    """
    storage = Storage(url)
    if storage.is_in_memory:
        raise UserError(
            f"expected a folder or a store for the images, got {url}, which ends with this command; name one"
        )
    return storage


def dataset_keys(config: Config) -> list[tuple[int, str]]:
    """(seed, method) of every dataset in the order of work: ``more`` last, as it spends the seconds that PRISM took."""
    methods = in_order_of_work(config.methods)
    return [(seed, method) for seed in config.seeds for method in methods]


def chosen_seed(
    config: Config, directory: Path, keys: list[tuple[int, str]], method: str, seed: int | None, *, kind: str
) -> int:  # fmt: skip
    """The seed that is meant with ``method``: the run's first where none is asked for.

    Args:
        config: the run's settings.
        directory: the run's directory, for the error.
        keys: the (seed, method) to choose from.
        method: the method asked for.
        seed: the seed asked for; None where none is.
        kind: what is looked for, for the error: student or data set.

    Raises:
        UserError: the method and the seed are not among ``keys``.
    """
    seed = config.seeds[0] if seed is None else seed
    if (seed, method) not in keys:
        known = ", ".join(f"--method {name} --seed {number}" for number, name in keys)
        raise UserError(f"expected a {kind} of {directory}, got method {method} and seed {seed}; use one of {known}")
    return seed


def adapter_folder(directory: Path) -> Path:
    """Where the generator's adapter is, once per run."""
    return directory / "adapter"


def dataset_folder(directory: Path, seed: int, method: str) -> Path:
    """Where a dataset, one method of one seed, has its plan, images, students and evaluation."""
    return directory / f"seed-{seed}" / method


def guide_folder(dataset: Path, number: int) -> Path:
    """Where the guide is that was trained after round ``number`` of a dataset, from 1."""
    return dataset / "rounds" / str(number)


def held_out_folder(directory: Path, kind: str) -> Path:
    """Where the held-out synthetic images of a kind of ``HELD_OUT`` are."""
    return directory / "held-out" / kind


def storage_of(config: Config, directory: Path, seed: int, method: str) -> Storage:
    """Where the images of one method of one seed are."""
    return storage_at(config.synthesis.storage, directory, seed, method)


def storage_at(storage: str, directory: Path, seed: int, method: str) -> Storage:
    """Where they are by ``synthesis.storage`` alone, for whoever has no more of a run's settings."""
    if not storage:  # then they move with the run's folder
        return Storage(dataset_folder(directory, seed, method) / "images")
    return Storage(f"{storage.rstrip('/')}/seed-{seed}/{method}")


def is_run(directory: Path) -> bool:
    """Whether a run was started in this folder."""
    return (directory / "run.json").is_file()


def check_new(directory: Path) -> None:
    """Refuse a folder for a new run that holds something else.

    Raises:
        UserError: it does.
    """
    if is_used(directory):
        raise UserError(
            f"expected a new folder or one of prismkd, got {directory} with other files; choose another --out"
        )


def recorded_config(directory: Path, *, trust: bool = False) -> Config:
    """The configuration that a run was started with, as far as its record may decide it (``config/authority.py``).

    Args:
        directory: of the run.
        trust: whether the record decides everything, as whoever made it is trusted.

    Raises:
        UserError: the folder is no run directory, its record is damaged, or it has a retired setting on.
    """
    return config_of(read_record(directory), directory, trust=trust)


def config_of(record: RunRecord, directory: Path, *, trust: bool = False) -> Config:
    """As ``recorded_config``, of a record that has been read."""
    path = directory / "run.json"
    settings = without_retired(record["config"], path)
    try:
        config = resolved(config_from_dict(settings))
        if not (config.methods and config.seeds):
            raise UserError("no methods or no seeds")
    except UserError as error:
        raise UserError(f"expected a run's settings in {path}, got others ({error}); {BRING_BACK}") from None
    return config if trust else without_reserved(config)


def check_recorded_storage(directory: Path, *, trust: bool) -> None:
    """Refuse a run whose record alone puts its images outside of its folder; nothing where there is no run.

    Raises:
        UserError: it does, and the command doesn't trust whoever made the run.
    """
    if is_run(directory):
        check_storage(recorded_config(directory).synthesis.storage, directory, trust=trust)


def read_record(directory: Path) -> RunRecord:
    """``run.json``: what a run was started with.

    Raises:
        UserError: the folder is no run directory, or its record is damaged.
    """
    record = read_json_if_any(directory / "run.json", RunRecord) if is_run(directory) else None
    if record is None:
        raise UserError(f"expected a run directory with run.json, got {directory}; check the path")
    return record


def commands_of(record: Mapping[str, Any]) -> str:
    """What to give again for the same results: the command that started a run, and those that changed its settings."""
    changes = record.get("changes") or []
    return "\n".join([str(record["command"]), *(str(change["command"]) for change in changes)])


def read_json(path: Path, shape: type[T]) -> T:
    """The JSON object in a file of the run directory, as ``read_json_if_any``.

    Raises:
        UserError: it is missing, because an earlier stage hasn't run, or damaged.
    """
    document = read_json_if_any(path, shape)
    if document is None:
        stage = WRITTEN_BY.get(path.name, "run")
        raise UserError(f"expected {path}, found none; run `prismkd {stage}` first")
    return document


def read_json_if_any(path: Path, shape: type[T]) -> T | None:
    """The JSON object in a file that not every run has; None where there is none.

    Args:
        path: of the file.
        shape: a ``TypedDict`` of ``records/shapes.py``. Keys that it doesn't name stay: later versions have written
            them, and ``run.json`` is written again.

    Raises:
        UserError: it is damaged; the error names the file and the field.
    """
    remedy = remedy_of(path)
    try:
        document = read_document(path, dict[str, Any], remedy=remedy)
    except FileNotFoundError:
        return None
    check_shape(document, shape, str(path), remedy=remedy)
    return cast(T, document)


def remedy_of(path: Path) -> str:
    """What to do about a file of the run directory that is damaged."""
    if path.name == "run.json":
        return BRING_BACK
    stage = WRITTEN_BY.get(path.name)
    return (
        f"bring it back from a copy, or delete it and run `prismkd {stage}`, which makes it anew" if stage else REMEDY
    )
