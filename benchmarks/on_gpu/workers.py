"""Two worker processes on one device, as a run has them."""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.embedded import embedded_session
from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.config import Config, SynthesisConfig
from prismkd.shards import Folder, drop_shard, scan
from prismkd.synthesis.workers.pool import Open
from prismkd.synthesis.workers.process import ProcessWorker

if TYPE_CHECKING:
    from benchmarks.on_gpu.scale import Found, Scale


def workers(scale: Scale, found: Found, until: float) -> None:
    """Two worker processes on the device over one, and whether all draw the same bytes of the same shards."""
    with tempfile.TemporaryDirectory() as folder:
        opened, images, num_shards, shard_size = scale.open_workers(Path(folder))
        shards, speeds, drawn = range(num_shards), dict[str, list[float]](), dict[str, dict[int, str]]()
        start = time.monotonic()
        pair = [ProcessWorker(opened, str(scale.device)) for _ in range(2)]
        try:
            draw_shards(pair, shards[:2], images)  # opens the models of both
            found |= {"start_seconds": time.monotonic() - start, "shards": num_shards, "shard_size": shard_size}
            for _ in range(scale.num_rounds):
                start = time.monotonic()
                for name, those in {"first": pair[:1], "second": pair[1:], "both": pair}.items():
                    seconds = draw_shards(those, shards, images)
                    speeds.setdefault(name, []).append(num_shards * shard_size / seconds)
                    drawn[name] = digests(images)
                found |= compare_workers(speeds, drawn)
                if time.monotonic() + (time.monotonic() - start) > until:
                    break
        finally:
            for worker in pair:
                worker.stop()


def compare_workers(speeds: dict[str, list[float]], drawn: dict[str, dict[int, str]]) -> Found:
    """Two workers over the faster one alone, and how many shards differ from the first one's."""
    speed = {name: median(values) for name, values in speeds.items()}
    one, first = max(speed["first"], speed["second"]), drawn["first"]
    different = {name: sum(drawn[name][shard] != digest for shard, digest in first.items()) for name in drawn}
    return {"images_per_second": {"one": one, "two": speed["both"]}, "all_images_per_second": speeds,
            "two_over_one": speed["both"] / one, "different_shards": different,
            "same_bytes": not any(different.values())}  # fmt: skip


def draw_shards(pair: Sequence[ProcessWorker], shards: Sequence[int], images: Folder) -> float:
    """Seconds that the workers together take for the shards, which are forgotten before.

    Raises:
        RuntimeError: a worker couldn't draw one, with its reason.
    """
    for shard in shards:
        drop_shard(images, shard)
    queue, busy = deque(shards), set[int]()
    start = time.monotonic()
    while queue or busy:
        for place, worker in enumerate(pair):
            if place not in busy and queue:
                worker.begin(queue.popleft())
                busy.add(place)
            for event in worker.events():
                if event.kind == "done":
                    busy.discard(place)
                elif event.kind != "progress":
                    raise RuntimeError(f"{event.kind}: {event.text}")
        time.sleep(0.002)
    return time.monotonic() - start


def digests(images: Folder) -> dict[int, str]:
    """The sha256 of every shard's file, as its record has it."""
    return {shard: record.sha256 for shard, record in sorted(scan(images).records.items())}


def open_embedded(config: Config, folder: Path, num_shards: int = 20) -> tuple[Open, Folder, int, int]:
    """A run of the embedded generator's plain images, a batch in each shard."""
    from prismkd.progress import silent
    from prismkd.runs.drawing import claim_datasets
    from prismkd.runs.open import open_run
    from prismkd.runs.planning import write_plans
    from prismkd.runs.workers import OpenShards

    size, num_classes = config.generator.batch_size, len(embedded_session(config=config).classes)
    sizes = SynthesisConfig(images_per_class=-(-num_shards * size // num_classes), shard_size=size)
    run = open_run(replace(config, methods=("plain",), synthesis=sizes), folder / "run", "benchmark", silent)
    write_plans(run)
    claim_datasets(run)
    threads = max(1, (os.cpu_count() or 1) // 2)
    opened = OpenShards(run.directory, 0, "plain", num_threads=threads, trust=False)
    return opened, run.drawn[0].storage, num_shards, size


def open_stand_ins(folder: Path) -> tuple[Open, Folder, int, int]:
    """Workers that load nothing and draw noise."""
    return OpenStandIns(str(folder)), str(folder), len(prepared(str(folder), 16, 4)), 4
