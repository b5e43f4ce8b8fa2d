"""A benchmark's work shared by several processes of one machine, such as 16 on one GPU.

Each task makes one file, from files of other tasks. Every process goes through all tasks and takes what is not made,
not being made, and possible; a lock goes with the process that holds it, however it ends.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = 0.5  # seconds between two looks for something to do


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        path: the file that it makes, at once and last.
        needs: files that it is made from.
        rank: tasks of a lower one are taken first: those that take longest, and those that others wait for.
        work: makes it.
    """

    path: Path
    needs: tuple[Path, ...]
    rank: float
    work: Callable[[], object]


def work_through(tasks: Sequence[Task]) -> None:
    """Do what is left, until all files are there."""
    left = sorted(tasks, key=lambda task: task.rank)
    while left := [task for task in left if not task.path.is_file()]:
        if not any(_done(task) for task in left):
            time.sleep(PAUSE)


def _done(task: Task) -> bool:
    """Do a task, unless something that it needs is missing or another process is at it; whether it was done."""
    if not all(path.is_file() for path in task.needs):
        return False
    task.path.parent.mkdir(parents=True, exist_ok=True)
    with task.path.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not task.path.is_file():
            start = time.monotonic()
            task.work()
            print(f"{task.path.stem}: {time.monotonic() - start:.0f} s", flush=True)
        return True


def in_processes(arguments: Sequence[str], number: int) -> None:
    """Run ``python arguments`` in several processes at once.

    Raises:
        SystemExit: one of them failed.
    """
    processes = [subprocess.Popen([sys.executable, *arguments]) for _ in range(number)]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit("a process failed; give the same command again")
