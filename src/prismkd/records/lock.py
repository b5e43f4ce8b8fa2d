"""One command at a time in a run directory; the lock goes with the process, however it ends.

A lock is the kernel's (``flock``) on a file that stays. Not filelock's: where a file system has no flock, its newer
versions fall back to a file that a killed process leaves locked.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from prismkd.errors import UserError
from prismkd.files import as_user_error, check_no_link, make_folder, read_document, remove_leftovers, write_json
from prismkd.text import visible

PATIENCE = 0.5  # seconds; `status` holds a lock for an instant
MAX_SHOWN = 80  # characters of what another process says of itself
OPENING = os.O_RDWR | os.O_NOFOLLOW  # never through a link, and never truncated: the file may be somebody else's


class Description(TypedDict):
    """Who took a lock."""

    pid: int
    host: str
    command: str
    since: str


@contextmanager
def locked(directory: Path, name: str = "run", *, wait: bool = False) -> Iterator[None]:
    """Hold ``directory``/.locks/``name`` while the block runs.

    Args:
        directory: of the run.
        name: of the lock.
        wait: until its holder has finished, instead of refusing.

    Raises:
        UserError: another process holds it; says which, and since when. Or the disk refuses the file, or has no locks.
    """
    folder = directory / ".locks"
    make_folder(folder, below=directory)
    if name == "run":
        _check_no_rank(directory)
    elif name.startswith("rank-") and is_locked(directory):
        raise _in_use(directory, "run")
    path = folder / f"{name}.lock"
    with as_user_error(str(path), writing=True):
        check_no_link(path, below=directory)
        descriptor = os.open(path, OPENING | os.O_CREAT, 0o666)
    try:
        if not _acquire(descriptor, directory, wait=wait):
            raise _in_use(directory, name)
        _describe(folder / f"{name}.json")
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked process that reads images has the file open, too
        os.close(descriptor)


def holder(directory: Path, name: str = "run") -> str:
    """Who took the lock last."""
    try:
        found = read_document(directory / ".locks" / f"{name}.json", Description)
    except (FileNotFoundError, UserError):
        return "another process"
    host, command, since = (visible(found[key][:MAX_SHOWN]) for key in ("host", "command", "since"))
    return f"process {found['pid']} on {host} (prismkd {command}, since {since})"


def is_locked(directory: Path, name: str = "run") -> bool:
    """Whether a process holds the lock now."""
    try:
        descriptor = os.open(directory / ".locks" / f"{name}.lock", OPENING | os.O_NONBLOCK)
    except OSError:  # there is none; or the disk can only be read, where nobody works
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks, where nobody works either
        return False
    finally:
        os.close(descriptor)
    return False


def rank_lock(rank: int, world: int) -> str:
    """The name of the lock of one rank of an array job."""
    return f"rank-{rank}-of-{world}"


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


def _acquire(descriptor: int, directory: Path, *, wait: bool) -> bool:
    """Lock an open file; False where another process holds it. Raises UserError where the disk has no locks."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(PATIENCE / 10)
        except OSError as error:
            raise UserError(
                f"expected a disk with file locks (flock) for {directory}, got: {error.strerror}; choose another --out"
            ) from None


def _describe(path: Path) -> None:
    with suppress(UserError):  # a full disk: the work itself will say so, where it needs room
        remove_leftovers(path)
        write_json(
            path,
            Description(
                pid=os.getpid(),
                host=socket.gethostname(),
                command=" ".join(sys.argv[1:2]),
                since=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
