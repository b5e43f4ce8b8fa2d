"""Faults of a disk: full for large files; or the process is killed at its n-th change of a folder."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
    """Stands for SIGKILL."""


class Killer:
    """Counts changes below a folder."""

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at, self.count = str(folder), at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        named = [os.fsdecode(name) for name in arguments if isinstance(name, str | bytes | os.PathLike)]
        changes = event in CHANGES and (event != "open" or arguments[2] & WRITING)
        if changes and any(name.startswith(self.folder) for name in named):
            self.event()

    def event(self) -> None:
        """Count one, and die where it is the one, or after it: cleaning up is not for the dead."""
        self.count += 1
        if self.count >= self.at:
            raise Killed


_killers = list[Killer]()
sys.addaudithook(lambda event, arguments: [killer(event, arguments) for killer in _killers] and None)


@contextmanager
def killed_at(number: int, folder: Path) -> Iterator[Killer]:
    """Kill the block at its change of this number below the folder, if there are so many; folders' syncs count, too."""
    killer, fsync = Killer(folder, number), os.fsync

    def sync(descriptor: int) -> None:
        killer.event()
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        _killers.append(killer)
        try:
            yield killer
        except Killed:
            pass
        finally:
            _killers.remove(killer)


def kill_everywhere(work: Callable[[Path], object], folder: Path, every: int = 1) -> int:
    """Do the work in new folders below ``folder``, killed at each of its changes in turn, and again if it isn't done.

    The results must equal those of undisturbed work. ``every`` leaves changes out, where the work is slow. Returns the
    number of the last change.
    """
    work(folder / "undisturbed" / "out")
    expected = contents(folder / "undisturbed")
    number, is_over = 1, False
    while not is_over:
        top = folder / str(number)
        top.mkdir()
        with killed_at(number, top) as killer:
            work(top / "out")
        number, is_over = number + every, killer.count < number
        if contents(top) != expected:
            work(top / "out")
        assert contents(top) == expected, f"killed at change {killer.at}"
    return killer.count


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Files can't grow beyond ``limit`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder by its name; None for folders."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")}  # fmt: skip
