"""File-system events of this process, counted; at the n-th something happens to it: a kill, or a disk that is full.

Python itself reports opening, renaming, removing and making of files and folders before it does them (its audit
events), whatever module does them by whatever name; ``os.fsync`` alone is replaced. What libraries write in C++ or Rust
is not seen, but such a file is in its place only when Python has renamed it.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {
    "open": "open", "os.rename": "rename", "os.remove": "unlink", "os.rmdir": "rmdir", "os.mkdir": "mkdir",
    "os.link": "link", "os.symlink": "link", "os.truncate": "truncate",
}  # fmt: skip
NEEDS_ROOM = ("open", "rename", "mkdir", "fsync")  # what a full disk refuses: all but what gives room
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
AT_DIRECTORY = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2}  # where an event has its folder's number
RANDOM_PART = re.compile(r"[0-9a-f]{8,}|\b[a-z0-9_]{8}\b(?=[^/]*\.tmp|/student)")


class KilledError(BaseException):
    """In place of a kill, for tests: what is killed has no chance to clean up, so every later event raises it too."""


@dataclass
class Watch:
    """What to look for, and what has been seen.

    Attributes:
        folder: only what happens below it counts.
        at: the number of the event that ``act`` is called before, from 0; None only counts.
        act: gets the kind and the path. What it raises, the event's caller gets.
        seen: kind and path of each event.
    """

    folder: Path
    at: int | None = None
    act: Callable[[str, str], None] = lambda kind, path: None
    seen: list[tuple[str, str]] = field(default_factory=list)

    def notice(self, kind: str, path: str) -> None:
        """Count an event, and act if it is its turn."""
        if not (path + os.sep).startswith(f"{self.folder}{os.sep}"):
            return
        self.seen.append((kind, path))
        if self.at is not None and len(self.seen) > self.at:
            self.act(kind, path)


_watch: Watch | None = None  # of this process; an audit hook can't be taken away again
_is_installed = False


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """While active, every file-system event of this process is noticed by ``watch``."""
    global _watch, _is_installed
    if not _is_installed:
        sys.addaudithook(_on_event)
        _is_installed = True
    sync, _watch = os.fsync, watch

    def fsync(fd: Any) -> None:
        watch.notice("fsync", _path_of(fd if isinstance(fd, int) else fd.fileno()))
        sync(fd)

    os.fsync = fsync
    try:
        yield watch
    finally:
        os.fsync, _watch = sync, None


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is None or event not in KINDS:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
        return
    if isinstance(arguments[0], int):  # a descriptor, which has been opened before
        return
    place = AT_DIRECTORY.get(event)
    directory = arguments[place] if place is not None else -1
    name = os.fsdecode(arguments[0])
    _watch.notice(KINDS[event], os.path.abspath(name) if directory == -1 else f"{_path_of(directory)}/{name}")


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


# --- what happens at an event ------------------------------------------------------------------------------------


def once(number: int, mark: Path) -> Callable[[str, str], None]:
    """A signal to this process, at the first event that is acted at; the time of the file ``mark`` says when."""
    sent = False

    def act(kind: str, path: str) -> None:
        nonlocal sent
        if not sent:
            sent = True
            mark.touch()
            os.kill(os.getpid(), number)

    return act


def kill(kind: str, path: str) -> None:
    """SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(kind: str, path: str) -> None:
    """A disk without room, from now on: nothing new comes to be."""
    if kind in NEEDS_ROOM and not (kind == "open" and os.path.exists(path)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def end(kind: str, path: str) -> None:
    """As if killed, within the process."""
    raise KilledError(kind, path)


def sites(seen: list[tuple[str, str]]) -> list[str]:
    """What each event did, so that two events of one line of code are the same: numbers and random names left out."""
    return [f"{kind} {re.sub('[0-9]+', '#', RANDOM_PART.sub('*', path))}" for kind, path in seen]
