"""Worker processes and Ray's actors: killed, hung, without their driver; the bytes stay the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.errors import UserError
from prismkd.shards import scan, verify
from prismkd.synthesis.workers import Policy, Pool, Progress, Unit
from prismkd.synthesis.workers.inline import InlineWorker
from prismkd.synthesis.workers.process import ProcessWorker

NUM_IMAGES, SHARD_SIZE = 30, 6
QUICK = Policy(max_tries=3, timeout=30, start_timeout=60, backoff=0.01)


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.tar"))}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run without any trouble writes."""
    folder = tmp_path_factory.mktemp("expected")
    shards = prepared(str(folder), NUM_IMAGES, SHARD_SIZE)
    unit = OpenStandIns(str(folder))("cpu")
    pool = Pool([lambda: InlineWorker(unit, lambda count: None)], QUICK, print, pause=0)
    assert pool.run(shards, lambda count: None) == {}
    return tars(folder)


def test_processes_write_the_same_bytes(tmp_path: Path, expected: dict[str, bytes]) -> None:
    shards, counts = prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE), list[int]()
    pool = Pool([partial(ProcessWorker, OpenStandIns(str(tmp_path)), "cpu")] * 2, QUICK, print)
    assert pool.run(shards, counts.append) == {}
    assert tars(tmp_path) == expected and sum(counts) == NUM_IMAGES


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "SIGKILL, perhaps for want of memory"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_killed_process_is_replaced_and_its_shard_drawn_again(
    tmp_path: Path, expected: dict[str, bytes], number: int, reason: str
) -> None:
    shards, workers, warnings = prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE), list[ProcessWorker](), list[str]()

    def start() -> ProcessWorker:
        workers.append(ProcessWorker(OpenStandIns(str(tmp_path), delay=0.02), "cpu"))
        return workers[-1]

    def progress(count: int) -> None:
        if len(workers) == 1 and count == 1 and workers[0].pid:
            os.kill(workers[0].pid, number)

    assert Pool([start], QUICK, warnings.append).run(shards, progress) == {}
    assert len(workers) == 2 and f"its process ended ({reason})" in warnings[0]
    assert tars(tmp_path) == expected and not list(tmp_path.rglob(".prismkd-*.tmp"))


class OpenTrouble:
    """A worker that hangs in its first unit, or meets bad input when it opens."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, device: str) -> Unit:
        if self.kind == "bad input":
            raise UserError("expected a device of this machine, got mars")

        def unit(number: int, progress: Progress) -> None:
            progress(1)
            time.sleep(60)

        return unit


def test_a_hung_process_is_timed_out_killed_and_its_shard_given_up() -> None:
    policy, workers = Policy(max_tries=1, timeout=30, start_timeout=2), list[ProcessWorker]()

    def start() -> ProcessWorker:
        workers.append(ProcessWorker(OpenTrouble("hang"), "cpu"))
        return workers[-1]

    assert Pool([start], policy, print).run([0], lambda count: None) == {0: "no sign of life for 2 s"}
    with pytest.raises(ValueError, match=r"closed|process object"):
        _ = workers[0].pid


def test_bad_input_in_a_process_is_the_drivers_error() -> None:
    pool = Pool([partial(ProcessWorker, OpenTrouble("bad input"), "cpu")], QUICK, print)
    with pytest.raises(UserError, match="got mars"):
        pool.run([0], lambda count: None)


DRIVER = """
import sys
from functools import partial
from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.synthesis.workers import Policy, Pool
from prismkd.synthesis.workers.process import ProcessWorker
if __name__ == "__main__":
    shards = prepared(sys.argv[1], 30, 6)
    workers = [partial(ProcessWorker, OpenStandIns(sys.argv[1], delay=0.02), "cpu")] * 2
    policy = Policy(max_tries=3, timeout=900, start_timeout=1800)
    Pool(workers, policy, print).run(shards, lambda count: print("drawn", flush=True))
"""


def test_workers_end_with_a_killed_driver_and_the_next_one_goes_on(tmp_path: Path, expected: dict[str, bytes]) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    folder = tmp_path / "images"
    command = [sys.executable, str(tmp_path / "driver.py"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    driver.kill()
    assert driver.stdout.read() is not None  # until the workers, who share it, have ended too
    driver.wait()
    assert len(scan(folder).records) < 5
    assert subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert tars(folder) == expected and verify(folder) == NUM_IMAGES and not list(folder.rglob(".prismkd-*.tmp"))


BUSY_DRIVER = """
import sys, time
from functools import partial
from prismkd import cli
from prismkd.synthesis.workers import Policy, Pool
from prismkd.synthesis.workers.process import ProcessWorker

class OpenBusy:
    def __init__(self, folder):
        self.folder = folder
    def __call__(self, device):
        def unit(number, progress):
            from pathlib import Path
            from prismkd.files.write import writing
            with writing(Path(self.folder, f"{number}.tar")):
                progress(1)
                time.sleep(60)
        return unit

def command(words):
    policy = Policy(max_tries=3, timeout=900, start_timeout=1800)
    workers = [partial(ProcessWorker, OpenBusy(sys.argv[1]), "cpu")] * 2
    Pool(workers, policy, print).run([0, 1], lambda count: print("drawn", flush=True))

if __name__ == "__main__":
    cli._dispatch = command
    sys.exit(cli.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_in_the_middle_of_a_shard_end_with_their_driver(tmp_path: Path, number: int) -> None:
    (tmp_path / "driver.py").write_text(BUSY_DRIVER)
    folder = tmp_path / "images"
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), str(folder)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert driver.stdout is not None
    assert [driver.stdout.readline() for _ in range(2)] == ["drawn\n"] * 2  # both are at work
    driver.send_signal(number)
    start = time.monotonic()
    _, err = driver.communicate(timeout=30)  # the workers share its output: this ends when all have ended
    assert time.monotonic() - start < 5 and not list(folder.iterdir())
    assert driver.returncode == (143 if number == signal.SIGTERM else -9)
    assert err == (
        "interrupted by SIGTERM; give the same command again to continue\n" if number == signal.SIGTERM else ""
    )


def test_a_worker_that_starts_does_not_hear_ctrl_c(tmp_path: Path, expected: dict[str, bytes]) -> None:
    shards, done = prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE), list[int]()
    worker = ProcessWorker(OpenStandIns(str(tmp_path)), "cpu")
    assert worker.pid is not None
    for _ in range(20):  # while it imports
        os.kill(worker.pid, signal.SIGINT)
        time.sleep(0.05)
    assert Pool([lambda: worker], replace(QUICK, max_tries=1), print).run(shards, done.append) == {}
    assert tars(tmp_path) == expected


IDLE_DRIVER = """
import time
from benchmarks.stand_in import OpenStandIns
from prismkd.synthesis.workers.process import ProcessWorker
if __name__ == "__main__":
    worker = ProcessWorker(OpenStandIns("unused"), "cpu")
    print("started", flush=True)
    time.sleep(60)
"""


def test_a_worker_without_work_ends_with_its_driver(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(IDLE_DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py")], env=environment, stdout=subprocess.PIPE)
    assert driver.stdout is not None and driver.stdout.readline() == b"started\n"
    driver.kill()
    driver.communicate(timeout=30)  # the worker shares its output: this ends when both have


BAR_DRIVER = """
from functools import partial
from prismkd.synthesis.workers import Policy, Pool
from prismkd.synthesis.workers.process import ProcessWorker

class OpenBar:
    def __call__(self, device):
        from tqdm import tqdm
        return lambda number, progress: list(tqdm(range(3), disable=True))

if __name__ == "__main__":
    policy = Policy(max_tries=3, timeout=900, start_timeout=1800)
    assert Pool([partial(ProcessWorker, OpenBar(), "cpu")], policy, print).run([0], print) == {}
"""


def test_a_worker_that_shows_bars_leaves_no_semaphore(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(BAR_DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(tmp_path / "driver.py")], env=environment, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stderr == ""


# --- Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Three nodes on this machine."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'prismkd[ray]'")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=found.address, include_dashboard=False, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})  # fmt: skip
    yield found
    ray.shutdown()
    found.shutdown()


def test_a_node_of_a_ray_cluster_dies_and_the_bytes_stay_the_same(
    cluster, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    from prismkd.synthesis.workers.ray import ray_starters

    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    shards, warnings = prepared(str(tmp_path), NUM_IMAGES, SHARD_SIZE), list[str]()

    def progress(count: int) -> None:
        if nodes and scan(tmp_path).records:  # two nodes of three at once, at work or not: one actor each
            while nodes:
                cluster.remove_node(nodes.pop(), allow_graceful=False)

    pool = Pool(ray_starters(OpenStandIns(str(tmp_path), delay=0.2), 3), QUICK, warnings.append)
    assert pool.run(shards, progress) == {}
    assert any("its actor ended" in text for text in warnings)
    assert tars(tmp_path) == expected and verify(tmp_path) == NUM_IMAGES
