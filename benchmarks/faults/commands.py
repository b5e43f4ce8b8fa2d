"""One command in a process of its own that starts in milliseconds: a fork of this one, which has imported everything.

A fork is safe as long as there is one thread; ``warm_up`` makes sure of it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path

from benchmarks.faults.events import Watch, watching

PATIENCE = 300.0  # seconds of a command that is expected to end
GRACE = 5.0  # seconds within which a signal ends a command, and workers end after their driver
# What our modules import when they need it. onnxruntime is not among it, as it starts a thread at once.
LIBRARIES = ("diffusers.models.transformers.transformer_2d", "onnxscript", "pyarrow.parquet")
SAFE_THREADS = ("jemalloc_bg_thd",)  # of pyarrow's allocator, which a fork starts anew
CHECKPOINT_EVERY = 2  # training steps, so that few steps have several checkpoints
# Before torch is imported. No pool of threads may exist at a fork, as only the forking thread goes on in the child.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: the exit code; minus the signal's number where that has ended it.
        errors: what it wrote to stderr.
        seconds: from the call of ``wait`` to its end.
        time: of its end, as of ``time.time``.
        strays: processes that it had started and that were still there some seconds later.
    """

    code: int
    errors: str
    seconds: float
    time: float
    strays: int

    @property
    def last_line(self) -> str:
        """Of stderr."""
        return (self.errors.strip().splitlines() or [""])[-1]

    def says(self, code: int, beginning: str) -> bool:
        """Whether it ended with this code, and on one line that begins so, without a traceback."""
        return self.code == code and self.last_line.startswith(beginning) and "Traceback" not in self.errors


def warm_up() -> None:
    """Import all that commands import, so that forks have it."""
    import prismkd

    ours = [found.name for found in pkgutil.walk_packages(prismkd.__path__, "prismkd.")]
    for name in (*(name for name in ours if not name.endswith(("__main__", ".ray"))), *LIBRARIES):
        importlib.import_module(name)
    import torch

    from prismkd.distillation import loop

    loop.CHECKPOINT_EVERY = CHECKPOINT_EVERY
    torch.set_num_threads(1)
    torch.nn.functional.conv2d(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3))
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len([name for name in threads if name not in SAFE_THREADS]) > 1:
        raise RuntimeError("expected one thread before commands are forked, got several; set all thread counts to 1")
    gc.collect()
    gc.freeze()  # the collector of a child then leaves the pages alone that it shares


@dataclass
class Command:
    """A command that runs.

    Attributes:
        pid: of its process, which leads a session of its own.
        errors: the file that its stderr goes to.
    """

    pid: int
    errors: Path

    def signal(self, number: int) -> None:
        """Send a signal to the driver; nothing happens where it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """How it ends; what takes longer than ``seconds`` is killed and ends with -9."""
        start = time.monotonic()
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - start > seconds:
                self.signal(signal.SIGKILL)
                found = os.waitpid(self.pid, 0)
                break
            time.sleep(0.002)
        now, took, code = time.time(), time.monotonic() - start, os.waitstatus_to_exitcode(found[1])
        return Ended(code, self.errors.read_text(errors="replace"), took, now, self._strays())

    def descendants(self) -> list[int]:
        """The ids of living processes of its session, but for its own."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                state, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid != int(path.name) and state not in "ZX":
                    found.append(int(path.name))
        return found

    def _strays(self) -> int:
        """How many processes of its session stay; they are killed."""
        deadline = time.monotonic() + GRACE
        while (found := self.descendants()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


def start(words: list[str], folder: Path, errors: Path, watch: Watch | None = None, log: Path | None = None) -> Command:
    """Start ``prismkd WORDS`` in ``folder``.

    Args:
        words: behind ``prismkd``.
        folder: the working directory.
        errors: the file for its stderr; its stdout is dropped.
        watch: for its file-system events. Those of worker processes aren't seen.
        log: where the events stand when it has ended.
    """
    pid = os.fork()
    if not pid:
        _run(lambda: _prismkd(words, watch, log), folder, errors)
    return Command(pid, errors)


def call(function: Callable[[], None], folder: Path, errors: Path) -> None:
    """Call a function in a fork, so that whatever it imports or starts is none of this process's."""
    pid = os.fork()
    if not pid:
        _run(function, folder, errors)
    ended = Command(pid, errors).wait()
    if ended.code:
        raise RuntimeError(ended.errors)


def _run(function: Callable[[], None], folder: Path, errors: Path) -> None:
    """The child's whole life; it never returns, as what lies above is the parent's."""
    code = 1
    try:
        atexit._clear()  # what the parent does at its end
        os.setsid()
        for number, path in ((0, os.devnull), (1, os.devnull), (2, str(errors))):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if number == 2 else 0)), number)
        os.chdir(folder)
        try:
            function()
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        util._exit_function()  # type: ignore[attr-defined]  # multiprocessing waits for its processes
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _prismkd(words: list[str], watch: Watch | None, log: Path | None) -> None:
    import torch

    torch.set_num_threads(1)  # makes the fork's pool anew; when two threads ask for it first, one of them gets none
    sys.argv = ["prismkd", *words]
    with watching(watch) if watch else nullcontext():
        try:
            runpy.run_module("prismkd", run_name="__main__", alter_sys=True)
        finally:
            if watch and log:
                log.write_text(json.dumps(watch.seen))
