"""Who draws a dataset's shards: this process, one per device, or a cluster; each opens the run's models for itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from prismkd.config import Config
from prismkd.config.threads import wait_passively
from prismkd.errors import UserError
from prismkd.progress import Progress
from prismkd.records.directory import recorded_config
from prismkd.runs.dataset import DrawnImages
from prismkd.runs.rounds import decided_plan, synthesizers
from prismkd.runs.run import Run
from prismkd.synthesis.synthesizer import run_shard
from prismkd.synthesis.workers import Unit
from prismkd.synthesis.workers.inline import InlineWorker
from prismkd.synthesis.workers.pool import Worker
from prismkd.synthesis.workers.process import ProcessWorker

PAUSE_SECONDS = 0.02  # between two looks at workers in other processes


@dataclass(frozen=True)
class OpenShards:
    """Opens a run's models in a worker process, and gives what draws a shard there; plain data, to be sent."""

    directory: Path
    seed: int
    method: str
    num_threads: int
    trust: bool

    def __call__(self, device: str) -> Unit:
        """Load the models onto ``device``."""
        if self.num_threads:
            # Before any model is loaded; else each process would use all cores.
            torch.set_num_threads(self.num_threads)
        config = recorded_config(self.directory)
        config = replace(config, trust=self.trust, generator=replace(config.generator, device=device))
        run = Run(config, directory=self.directory)
        run.inputs.check_teacher()  # which may lie elsewhere on this machine than on the driver's
        return draws_shards(DrawnImages(run, self.seed, self.method))


def draws_shards(dataset: DrawnImages) -> Unit:
    """What draws a shard of a dataset by its number."""
    manifest, storage = dataset.manifest, dataset.storage
    plan, synthesizer_of = decided_plan(dataset, manifest), synthesizers(dataset, manifest)
    ranges, plan_hash = manifest.ranges, manifest.plan_hash

    def draw(shard: int, progress: Progress) -> None:
        indices = ranges[shard]
        run_shard(storage, shard, plan, indices, synthesizer_of(indices.start), plan_hash, progress, manifest.encoding)

    return draw


def starters(dataset: DrawnImages, progress: Progress) -> tuple[Sequence[Callable[[], Worker]], float]:
    """Starters of the workers that the configuration asks for, and the seconds between two looks at them.

    Raises:
        UserError: the images are in this process's memory, which other processes can't share; or there is no cluster.
    """
    run, config = dataset.run, dataset.run.config
    devices, number = drawing_devices(config), config.synthesis.num_workers
    if config.synthesis.executor == "local" and not number and len(devices) == 1:
        return [lambda: InlineWorker(draws_shards(dataset), progress)], 0.0
    if dataset.storage.is_in_memory:
        raise UserError(
            f"expected synthesis.storage that worker processes share, got {config.synthesis.storage}, this process's "
            "memory; name a folder or s3://bucket/folder, or draw with num_workers 0, executor local and one device"
        )
    opened = OpenShards(run.directory.absolute(), dataset.seed, dataset.method, config.num_threads, config.trust)
    if config.synthesis.executor == "ray":
        from prismkd.synthesis.workers.ray import ray_starters

        return ray_starters(opened, number, config.synthesis.ray_address), PAUSE_SECONDS
    wait_passively()  # they inherit it; whoever uses the library has not said it yet
    # More workers than devices share these, in turn.
    number = number or len(devices)
    opened = replace(opened, num_threads=config.num_threads or max(1, (os.cpu_count() or 1) // number))
    workers = [partial(ProcessWorker, opened, devices[place % len(devices)]) for place in range(number)]
    return workers, PAUSE_SECONDS


def workers_per_device(config: Config) -> float:
    """How many worker processes share a device, at least 1; on a cluster each has its own."""
    if config.synthesis.executor != "local":
        return 1.0
    return max(1.0, config.synthesis.num_workers / len(drawing_devices(config)))


def drawing_devices(config: Config) -> list[str]:
    """The devices that images are drawn on: one where the teacher is a module, which no other process can open."""
    devices = device_names(config.generator.device)
    return devices[:1] if config.teacher.startswith("module ") else devices


def device_names(name: str) -> list[str]:
    """Every accelerator of this machine where the device is ``auto`` and there are several, else the one."""
    if name == "auto" and torch.cuda.device_count() > 1:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [name]
