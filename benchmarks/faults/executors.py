"""Does a data set survive SIGKILLs at random moments, bit for bit? Workers and drivers, in every executor.

The engine is the real one; images are noise (``stand_in.py``), so that a round takes seconds. In a round one process is
chosen by chance, driver or worker, and killed at a random moment, in most rounds after work has begun; what dies with
it is started again, until all is drawn. Then the next data set begins. Linux only: processes are found in /proc.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.publish import ROOT
from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.records.lock import locked
from prismkd.shards import inspect, scan
from prismkd.synthesis.workers import Policy, Pool, units_of_rank
from prismkd.synthesis.workers.inline import InlineWorker
from prismkd.synthesis.workers.process import ProcessWorker

NUM_IMAGES, SHARD_SIZE, NUM_WORKERS = 240, 12, 2
SECONDS_PER_IMAGE = 0.008
AT_WORK, PATIENCE = 0.8, 8.0  # share of kills that wait until something is written, and the seconds they wait at most
MAX_SECONDS = 0.6  # until the kill, from then on or from the last one
# Kills are what is tested, so a shard is hardly ever given up, and nobody waits long for the dead.
POLICY = Policy(max_tries=100, timeout=30, start_timeout=60, backoff=0.01)


# --- the driver, a process of its own ----------------------------------------------------------------------------


def drive(executor: str, folder: str, rank: int, address: str) -> None:
    """Draw what is missing, as ``prismkd synthesize`` does, with stand-ins for images.

    Args:
        executor: local, array or ray.
        folder: of the data set.
        rank: of an array job; without meaning for the other executors.
        address: of the Ray cluster; without meaning for the other executors.
    """
    lock = f"rank-{rank}-of-{NUM_WORKERS}" if executor == "array" else "run"
    with locked(Path(folder).parent, lock):
        with locked(Path(folder).parent, "prepare", wait=True):
            shards = prepared(folder, NUM_IMAGES, SHARD_SIZE)
        committed = scan(folder).records
        own_shards = units_of_rank(shards, rank, NUM_WORKERS) if executor == "array" else shards
        missing = [shard for shard in own_shards if shard not in committed]
        pool = Pool(_starters(executor, OpenStandIns(folder, delay=SECONDS_PER_IMAGE), address), POLICY, print,
                    pause=0.0 if executor == "array" else 0.01)  # fmt: skip
        if pool.run(missing, lambda count: None):
            sys.exit(1)


def _starters(executor: str, opened: OpenStandIns, address: str) -> Sequence[Callable[[], Any]]:
    """What starts each worker of an executor."""
    if executor == "local":
        return [partial(ProcessWorker, opened, "cpu")] * NUM_WORKERS
    if executor == "array":
        unit = opened("cpu")
        return [lambda: InlineWorker(unit, lambda count: None)]
    from prismkd.synthesis.workers.ray import ray_starters

    return ray_starters(opened, NUM_WORKERS, address)


# --- the killer --------------------------------------------------------------------------------------------------


def attack(executor: str, rounds: int, address: str) -> dict[str, Any]:
    """Kill ``rounds`` times over as many data sets as that takes, and compare each with an undisturbed one."""
    random, expected = Random(rounds), _undisturbed()
    counts = {"rounds": 0, "drivers": 0, "workers": 0, "data_sets": 0, "differing": 0, "leftovers": 0, "findings": 0}
    start = time.monotonic()
    while counts["rounds"] < rounds:
        with tempfile.TemporaryDirectory() as directory:
            folder = str(Path(directory) / "images")
            _draw_under_fire(executor, folder, address, random, counts, rounds)
            counts["data_sets"] += 1
            counts["differing"] += _digests(folder) != expected
            counts["leftovers"] += len(list(Path(folder).rglob(".prismkd-*.tmp")))
            counts["findings"] += len(inspect(folder)[0])
        print(f"{executor}: {counts}", file=sys.stderr, flush=True)
    return {"executor": executor, **counts, "seconds": round(time.monotonic() - start, 1)}


def _draw_under_fire(
    executor: str, folder: str, address: str, random: Random, counts: dict[str, int], rounds: int
) -> None:
    """Draw one data set, with kills while there are rounds left; ``counts`` is changed in place."""
    ranks = range(NUM_WORKERS if executor == "array" else 1)
    drivers = {rank: _start(executor, folder, rank, address) for rank in ranks}
    finished = set[int]()
    while len(finished) < len(drivers):
        for rank, driver in drivers.items():
            code = driver.poll()
            if code == 0:
                finished.add(rank)
            elif code is not None:  # killed, or lost a worker too often: its user starts the same command again
                drivers[rank] = _start(executor, folder, rank, address)
        if len(finished) < len(drivers) and random.random() < AT_WORK:
            _wait_for_work(folder)
        time.sleep(random.uniform(0, MAX_SECONDS))
        alive = [driver.pid for driver in drivers.values() if driver.poll() is None]
        if not alive or counts["rounds"] >= rounds:
            continue
        victim, kind = _victim(executor, alive, random)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            counts["rounds"] += 1
            counts[kind] += 1


def _wait_for_work(folder: str) -> None:
    """Until a file appears in the data set; a kill before that meets nothing but starting processes."""
    start, before = time.monotonic(), _files(folder)
    while _files(folder) == before and time.monotonic() - start < PATIENCE:
        time.sleep(0.005)


def _files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).rglob("*")}


def _victim(executor: str, drivers: list[int], random: Random) -> tuple[int, str]:
    """The id of a driver or a worker, each kind as likely, and which it is; an array job's ranks have no workers."""
    workers = [] if executor == "array" else _workers(executor, drivers[0])
    if workers and random.random() < 0.5:
        return random.choice(workers), "workers"
    return random.choice(drivers), "drivers"


def _workers(executor: str, driver: int) -> list[int]:
    """Ids of worker processes: the driver's children, or the nodes' actors."""
    workers = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            command = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            is_actor = command.startswith(b"ray::") and b"_Actor" in command
            is_child = parent == driver and b"spawn_main" in command
            if is_actor if executor == "ray" else is_child:
                workers.append(int(path.name))
    return workers


def _start(executor: str, folder: str, rank: int, address: str) -> subprocess.Popen[bytes]:
    """``drive`` in a process of its own, that can be killed."""
    command = [sys.executable, "-m", "benchmarks.faults", "--drive", executor, folder, str(rank), address]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _undisturbed() -> dict[str, str]:
    """The digests of a data set that nothing interrupted."""
    with tempfile.TemporaryDirectory() as directory:
        folder = str(Path(directory) / "images")
        drive("array", folder, 0, "")
        drive("array", folder, 1, "")
        return _digests(folder)


def _digests(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).glob("*.tar"))}


@contextmanager
def cluster(wanted: bool) -> Iterator[str]:
    """While active, a Ray cluster of two nodes on this machine; yields its address, or nothing where none is wanted."""
    if not wanted:
        yield ""
        return
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray_cluster.add_node(num_cpus=2)
    try:
        yield ray_cluster.address
    finally:
        ray_cluster.shutdown()
