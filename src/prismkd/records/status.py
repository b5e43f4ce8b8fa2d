"""How far a run is, from its ledgers; another process may be at work. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismkd.records.directory import STUDENT, images_of, job_folder, jobs_of, read_record, recorded_config
from prismkd.records.lock import holder, is_locked, rank_locks
from prismkd.shards import read_manifest, scan


@dataclass(frozen=True)
class JobStatus:
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
    """All jobs of a run, and who is at work in it."""

    jobs: list[JobStatus]
    workers: list[str]

    @property
    def finished(self) -> bool:
        """Whether every data set is complete."""
        return all(job.shards == job.shards_in_all for job in self.jobs)

    @property
    def seconds_left(self) -> float | None:
        """At the measured speed, with one worker; None before there is one."""
        speeds = [job.images_per_second for job in self.jobs if job.images_per_second]
        seconds = 0.0
        for job in self.jobs:
            missing = (job.images_in_all or 0) - job.images
            if missing > 0 and not speeds:
                return None
            # A method without a committed shard is taken to be as fast as the others are on average
            seconds += missing / (job.images_per_second or sum(speeds) / len(speeds)) if missing > 0 else 0.0
        return seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"jobs": [vars(job) for job in self.jobs], "workers": self.workers, "seconds_left": self.seconds_left}


def status_of(directory: Path) -> Status:
    """Read the ledgers of a run.

    Raises:
        UserError: the folder is no run directory.
    """
    config = recorded_config(directory)
    num_classes = len(read_record(directory)["classes"])
    rows = []
    for seed, method in jobs_of(config):
        folder = job_folder(directory, seed, method)
        student = (folder / STUDENT / "log.json").is_file()
        evaluated = (folder / "evaluation.json").is_file()
        if method == "real":  # draws nothing: its data set is complete from the start
            rows.append(JobStatus(seed, method, 0, 0, 0, 0, 0.0, None, 0, 0, student, evaluated))
            continue
        images = images_of(config, directory, seed, method)
        manifest, ledger = read_manifest(images), scan(images)
        records = ledger.records.values()
        count, seconds = ledger.num_images, sum(record.seconds for record in records)
        # How many images PRISM's seconds buy for `more` nobody knows before
        expected = None if method == "more" else config.synthesis.images_per_class * num_classes
        row = JobStatus(
            seed=seed,
            method=method,
            # A shard that the manifest doesn't have brings the data set no nearer to its end
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
