"""One command at a time in a run directory; the lock goes with the process, however it ends."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from filelock import FileLock, Timeout

from prismkd.errors import UserError
from prismkd.files import read_document
from prismkd.text import printable


class Holder(TypedDict):
    """``.locks/NAME.json``: who took a lock last."""

    pid: int
    host: str
    command: str
    since: str


@contextmanager
def locked(directory: Path, name: str = "run", *, wait: bool = False) -> Iterator[None]:
    """Hold ``directory``/.locks/``name`` while the block runs.

    Args:
        wait: until its holder has finished, instead of refusing.

    Raises:
        UserError: another process holds it; says which, and since when.
    """
    folder = directory / ".locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        if name == "run":
            _check_no_rank(directory)
        elif name.startswith("rank-") and is_locked(directory):
            raise _in_use(directory, "run")
        lock.acquire(timeout=-1 if wait else 0.5)  # `status` holds it for an instant
    except Timeout:
        raise _in_use(directory, name) from None
    except OSError as error:
        raise UserError(
            f"expected to write into {directory}, got: {error.strerror or error}; check its permissions and the disk's "
            "room, or choose another --out"
        ) from None
    try:
        _describe(folder / f"{name}.json")
        yield
    finally:
        lock.release()


def holder(directory: Path, name: str = "run") -> str:
    """Who took the lock last."""
    try:
        found = read_document(directory / ".locks" / f"{name}.json", Holder)
    except (FileNotFoundError, UserError):  # damaged, and no reason to stop
        return "another process"
    host, command, since = (printable(found[key])[:100] for key in ("host", "command", "since"))
    return f"process {found['pid']} on {host} (prismkd {command}, since {since})"


def is_locked(directory: Path, name: str = "run") -> bool:
    """Whether a process holds the lock now."""
    path = directory / ".locks" / f"{name}.lock"
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # on a disk that can only be read, nobody works
        return False
    lock.release()
    return False


def rank_locks(directory: Path) -> list[str]:
    """Names of the locks that ranks of an array job have taken at some time."""
    return sorted(path.stem for path in (directory / ".locks").glob("rank-*.lock"))


def _check_no_rank(directory: Path) -> None:
    """The ranks of an array job share the directory with each other, and with no other command."""
    for rank in rank_locks(directory):
        if is_locked(directory, rank):
            raise _in_use(directory, rank)


def _in_use(directory: Path, name: str) -> UserError:
    return UserError(
        f"expected {directory} for this command alone, got one that is in use by {holder(directory, name)}; "
        "wait for it or stop it, or choose another --out"
    )


def _describe(path: Path) -> None:
    description = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[1:2]),
             "since": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
    with suppress(OSError):  # a full disk: the work itself will say so, where it needs room
        path.write_text(json.dumps(description))
