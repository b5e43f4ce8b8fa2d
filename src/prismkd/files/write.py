"""Writing a file on a disk so that it appears whole or not at all, and never through a link inside a run.

Every file of a run, of an export and of a report is written here: under a temporary name, synced and renamed. A process
killed at any moment leaves no half file under a final name.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from prismkd.errors import UserError
from prismkd.signals import before_hard_end

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BUFFER = 2**20  # bytes; a tar is written in blocks of 512, and a network disk wants larger ones
TEMPORARY = re.compile(r"\.prismkd-(?P<name>.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)  # no user gives a file such a name
OWN_FILES = ("run.json", "manifest.json")  # one of them makes a folder one of prismkd's
_unfinished = set[Path]()  # temporary files of this process


@contextmanager
def writing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write. It appears at ``path`` all at once when the block ends, and not at all when that raises.

    Args:
        path: of the file; its folders are made.
        sync: whether to wait until the disk has it. Off only for one of many files that can be made again, which is
            far quicker; after a power failure it may be incomplete.

    Raises:
        UserError: the disk is full or refuses the file, or the path leads through a link inside a run; a file that was
            there before stays.
    """
    make_folder(path.parent)
    # In the same folder, as a rename is atomic within one file system only; with a random end, since two processes may
    # write the same file
    temporary = path.with_name(f".prismkd-{path.name}.{secrets.token_hex(8)}.tmp")
    _unfinished.add(temporary)
    try:
        with io.BufferedWriter(_TemporaryFile(temporary, path, sync=sync), BUFFER) as file:
            yield file
        with as_user_error(str(path), writing=True):
            os.replace(temporary, path)  # which replaces a link, and doesn't follow it
            if sync:
                _sync_folder(path.parent)
    except BaseException:  # a KeyboardInterrupt too
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(temporary)


def write(path: Path, data: bytes | str, *, sync: bool = True) -> None:
    """Write a file, or replace it, all at once; text as UTF-8. Errors as of ``writing``."""
    with writing(path, sync=sync) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file all at once; errors as of ``writing``."""
    write(path, json.dumps(data, indent=1) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        UserError: the disk refuses it, or the path leads through a link inside a run.
    """
    with as_user_error(str(path), writing=True):
        check_no_link(path)
        path.mkdir(parents=True, exist_ok=True)


def check_no_link(path: Path) -> None:
    """Refuse a path that a link inside a run's folder or a data set's leads elsewhere.

    A folder that somebody else made may hold links to the user's own files. A link above such a folder is the user's.

    Raises:
        UserError: names the link.
    """
    absolute, inside = Path(os.path.abspath(path)), False
    for part in (*reversed(absolute.parents), absolute):
        if inside and part.is_symlink():
            raise UserError(
                f"expected no link inside a run, got {part}, which leads to {os.readlink(part)}; replace it by what it "
                "leads to, or delete it"
            )
        inside = inside or any((part / name).is_file() for name in OWN_FILES)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a temporary one of ``writing``."""
    return TEMPORARY.fullmatch(name) is not None


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of this file's killed writers."""
    for leftover in path.parent.glob(".prismkd-*.tmp"):
        match = TEMPORARY.fullmatch(leftover.name)
        if match and match["name"] == path.name:
            leftover.unlink(missing_ok=True)


def remove_temporary_files(directory: Path) -> None:
    """Delete the temporary files of killed writers anywhere below ``directory``; links aren't followed.

    Only for the holder of the run's lock: the temporary files of living writers are not told apart.
    """
    for root, _, names in os.walk(directory):
        for name in names:
            if is_temporary(name):
                Path(root, name).unlink(missing_ok=True)


def _remove_unfinished() -> None:
    """Delete this process's temporary files, for a process that ends in the middle of writing them."""
    for temporary in list(_unfinished):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


before_hard_end(_remove_unfinished)


class _TemporaryFile(io.FileIO):
    """A temporary file that is on the disk when it is closed, and whose errors name the final file.

    The errors are turned into ``UserError`` here and not around the whole block of ``writing``: that block also draws
    images between two writes, and an OSError from there is not the disk's.
    """

    def __init__(self, path: Path, target: Path, *, sync: bool) -> None:
        self.target, self.sync = str(target), sync
        with as_user_error(self.target, writing=True):
            super().__init__(path, "xb")  # never one that is there, such as a link

    def write(self, data: Any) -> int:
        with as_user_error(self.target, writing=True):
            return super().write(data)

    def close(self) -> None:
        with as_user_error(self.target, writing=True):
            if not self.closed and self.sync:
                os.fsync(self.fileno())
            super().close()


@contextmanager
def as_user_error(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turn the errors of a disk into a ``UserError`` with a remedy.

    A FileNotFoundError passes unless ``writing``: a missing file is an answer to the caller and no fault of the disk.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        raise disk_error(error, path) from None


def disk_error(error: Exception, path: str) -> UserError:
    """What a user is told of an error of a disk, or of a store, that had to do with ``path``."""
    reason = getattr(error, "strerror", "") or (str(error) or type(error).__name__).splitlines()[0]
    if getattr(error, "errno", None) in DISK_FULL:
        remedy = "free some and give the same command again; what is committed stays"
        return UserError(f"expected room for {path}, got: {reason}; {remedy}")
    remedy = "check the permissions, or choose another folder; what is committed stays"
    return UserError(f"expected {path} to be usable, got: {reason}; {remedy}")


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure: it is a change of the folder, which is synced apart from the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
