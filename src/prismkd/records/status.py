"""How far a run is, from its ledgers; another process may be at work. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismkd.records.directory import STUDENT, config_of, dataset_folder, dataset_keys, read_record, storage_of
from prismkd.records.lock import holder, is_locked, rank_locks
from prismkd.shards import read_manifest, scan


@dataclass(frozen=True)
class DatasetStatus:
    """One method of one seed.

    Attributes:
        shards, shards_in_all: committed, and planned; None where nothing is planned yet.
        images, images_in_all: the same in images.
        gigabytes: of the committed tars.
        images_per_second: of one worker, over all committed shards; None before the first.
        damaged, failed: shards that don't count; `verify` says why.
    """

    seed: int
    method: str
    shards: int
    shards_in_all: int | None
    images: int
    images_in_all: int | None
    gigabytes: float
    images_per_second: float | None
    damaged: int
    failed: int
    student: bool
    evaluated: bool


@dataclass(frozen=True)
class Status:
    """All datasets of a run, and who is at work in it."""

    datasets: list[DatasetStatus]
    workers: list[str]

    @property
    def finished(self) -> bool:
        """Whether every dataset is complete."""
        return all(dataset.shards == dataset.shards_in_all for dataset in self.datasets)

    @property
    def seconds_left(self) -> float | None:
        """At the measured speed, with one worker; None before there is one."""
        speeds = [dataset.images_per_second for dataset in self.datasets if dataset.images_per_second]
        seconds = 0.0
        for dataset in self.datasets:
            missing = (dataset.images_in_all or 0) - dataset.images
            if missing > 0 and not speeds:
                return None
            # A method without a committed shard is taken to be as fast as the others are on average
            seconds += missing / (dataset.images_per_second or sum(speeds) / len(speeds)) if missing > 0 else 0.0
        return seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        datasets = [vars(dataset) for dataset in self.datasets]
        return {"jobs": datasets, "workers": self.workers, "seconds_left": self.seconds_left}


def status_of(directory: Path) -> Status:
    """Read the ledgers of a run.

    Raises:
        UserError: the folder is no run directory.
    """
    record = read_record(directory)
    config, num_classes = config_of(record, directory), len(record["classes"])
    rows = []
    for seed, method in dataset_keys(config):
        folder = dataset_folder(directory, seed, method)
        student = (folder / STUDENT / "log.json").is_file()
        evaluated = (folder / "evaluation.json").is_file()
        if method == "real":  # draws nothing: its dataset is complete from the start
            rows.append(DatasetStatus(seed, method, 0, 0, 0, 0, 0.0, None, 0, 0, student, evaluated))
            continue
        images = storage_of(config, directory, seed, method)
        manifest, ledger = read_manifest(images), scan(images)
        records = ledger.records.values()
        count, seconds = ledger.num_images, sum(record.seconds for record in records)
        # How many images PRISM's seconds buy for `more` nobody knows before
        expected = None if method == "more" else config.synthesis.images_per_class * num_classes
        row = DatasetStatus(
            seed=seed,
            method=method,
            # A shard that the manifest doesn't have brings the dataset no nearer to its end
            shards=len(ledger.records.keys() & range(len(manifest.ranges))) if manifest else len(ledger.records),
            shards_in_all=len(manifest.ranges) if manifest else None,
            images=count,
            images_in_all=manifest.num_images if manifest else expected,
            gigabytes=sum(record.bytes for record in records) / 1e9,
            images_per_second=count / seconds if seconds else None,
            damaged=len(ledger.damaged),
            failed=len(ledger.failed),
            student=student,
            evaluated=evaluated,
        )
        rows.append(row)
    # What has no shard yet may be at work all the same: the locks say so
    names = ["run"] if is_locked(directory) else []
    names += [name for name in rank_locks(directory) if is_locked(directory, name)]
    return Status(rows, [f"{name}: {holder(directory, name)}" for name in names])
