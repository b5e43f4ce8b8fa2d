"""Writing and deleting on a disk: a file appears whole or not at all, and nothing happens through a link inside a run.

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
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from prismkd.errors import UserError
from prismkd.files.machine import is_exhausted, remedy_for
from prismkd.signals import before_hard_end

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)  # of folders on some network disks, or that can't be listed
BUFFER = 2**20  # bytes; a tar is written in blocks of 512, and a network disk wants larger ones
TEMPORARY = re.compile(r"\.prismkd-(?P<name>.*)\.[0-9a-f]{16}\.tmp", re.DOTALL)  # no user gives a file such a name
MAX_NAME = 220  # bytes of a file's name within its temporary one; file systems take 255 in all
UNFINISHED = "unfinished-export"  # a file of an export that isn't complete
OWN_FILES = ("run.json", "dataset.json", UNFINISHED)  # one of them makes a folder one of prismkd's
_unfinished = set[Path]()  # temporary files of this process


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path, *, below: Path | None = None, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write. It appears at ``path`` all at once when the block ends, and not at all when that raises.

    Args:
        path: of the file; its folders are made.
        below: as of ``check_no_link``.
        sync: whether to wait until the disk has it. Off only for one of many files that can be made again, which is
            far quicker; after a power failure it may be incomplete.

    Raises:
        UserError: the disk is full or refuses the file, or the path leads through a link inside a run; a file that was
            there before stays.
    """
    make_folder(path.parent, below=below)
    # In the same folder, as a rename is atomic within one file system only
    temporary = path.with_name(_temporary_name(path.name))
    _unfinished.add(temporary)
    raw = CheckedFile(temporary, "xb", target=str(path))  # never one that is there, such as a link
    try:
        file = io.BufferedWriter(raw, BUFFER)
        yield file
        file.flush()
        raw.check()
        with as_user_error(str(path), writing=True):
            if sync:
                os.fsync(raw.fileno())
            raw.close()
            os.replace(temporary, path)  # which replaces a link, and doesn't follow it
            if sync:
                _sync_folder(path.parent)
    except BaseException as error:  # a KeyboardInterrupt too
        with suppress(OSError):
            raw.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, Exception):
            raw.check()  # a library that was writing may have put an error of its own in the place of the disk's
        raise
    finally:
        _unfinished.discard(temporary)


def write(path: Path, data: bytes | str, *, below: Path | None = None, sync: bool = True) -> None:
    """Write a file, or replace it, all at once; text as UTF-8. Arguments and errors as of ``writing``."""
    with writing(path, below=below, sync=sync) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file all at once; errors as of ``writing``."""
    write(path, json.dumps(data, indent=1) + "\n")


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """A folder to fill. It appears at ``path`` all at once when the block ends, and not at all when that raises.

    What killed makers of the same folder have left is deleted first.

    Args:
        path: of the folder, where nothing is or an empty folder.

    Raises:
        UserError: as of ``writing``.
    """
    with as_user_error(str(path), writing=True):
        check_no_link(path)
        real = Path(os.path.realpath(path))  # a link to an empty folder is the user's own, and can't be renamed onto
    remove_leftovers(real)
    temporary = real.with_name(_temporary_name(real.name))
    make_folder(real.parent)
    with as_user_error(str(path), writing=True):
        temporary.mkdir()
    try:
        yield temporary
        with as_user_error(str(path), writing=True):
            os.replace(temporary, real)
            _sync_folder(real.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def make_folder(path: Path, *, below: Path | None = None) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        UserError: the disk refuses it, or the path leads through a link inside a run.
    """
    with as_user_error(str(path), writing=True):
        check_no_link(path, below=below)
        missing = list(takewhile(lambda folder: not folder.is_dir(), (path, *path.parents)))
        if missing:
            path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)  # a file in it would be lost with it


# --- renaming and deleting -------------------------------------------------------------------------------------------


def rename(source: Path, target: Path) -> None:
    """Give a file or a folder another name; a file that has it is replaced.

    Raises:
        UserError: the disk refuses it, or a path leads through a link inside a run.
    """
    with as_user_error(str(target), writing=True):
        check_no_link(source.parent)
        check_no_link(target.parent)
        os.replace(source, target)
        _sync_folder(target.parent)
        _sync_folder(source.parent)


def remove(path: Path, *, below: Path | None = None) -> None:
    """Delete a file; nothing happens where there is none.

    Raises:
        UserError: the disk refuses it, or the path leads through a link inside a run.
    """
    with suppress(FileNotFoundError), as_user_error(str(path)):
        check_no_link(path.parent, below=below)
        path.unlink()
        _sync_folder(path.parent)


def remove_leftovers(path: Path, *, below: Path | None = None) -> None:
    """Delete what killed writers of this file, or makers of this folder, have left; errors as of ``remove``."""
    wanted = _cut(path.name)
    with suppress(FileNotFoundError), as_user_error(str(path)):
        check_no_link(path.parent, below=below)
        for leftover in path.parent.glob(".prismkd-*.tmp"):
            match = TEMPORARY.fullmatch(leftover.name)
            if match and match["name"] == wanted:
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink(missing_ok=True)


def remove_temporary_files(directory: Path) -> None:
    """Delete the temporary files of killed writers anywhere below ``directory``; links aren't followed.

    Only for the holder of the run's lock: the temporary files of living writers are not told apart.
    """
    for root, _, names in os.walk(directory):
        for name in names:
            if is_temporary(name):
                with as_user_error(root):
                    Path(root, name).unlink(missing_ok=True)


def _remove_unfinished() -> None:
    """Delete this process's temporary files, for a process that ends in the middle of writing them."""
    for temporary in list(_unfinished):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


before_hard_end(_remove_unfinished)


# --- what is there ---------------------------------------------------------------------------------------------------


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a temporary one of ``writing``."""
    return TEMPORARY.fullmatch(name) is not None


def is_used(path: Path) -> bool:
    """Whether there is a file at ``path``, or a folder with more in it than what killed writers have left."""
    with as_user_error(str(path)):
        if not path.is_dir():
            return os.path.lexists(path)
        return any(not is_temporary(entry.name) for entry in path.iterdir())


def check_no_link(path: Path, *, below: Path | None = None) -> None:
    """Refuse a path that a link inside a run's folder or a data set's leads elsewhere.

    A folder that somebody else made may hold links to the user's own files. A link above such a folder is the user's.

    Args:
        path: that is to be written or deleted, or the folder of it.
        below: a folder that is one of prismkd's, even where no file in it says so.

    Raises:
        UserError: names the link.
    """
    absolute, top = Path(os.path.abspath(path)), None if below is None else os.path.abspath(below)
    inside = False
    for part in map(str, (*reversed(absolute.parents), absolute)):
        if inside and os.path.islink(part):
            raise _link_error(part)
        inside = inside or part == top or any(os.path.isfile(f"{part}/{name}") for name in OWN_FILES)


def check_no_link_out(folder: Path, *, ignoring: str = "") -> None:
    """Refuse a folder from which something is to be sent or embedded, and in which a link leads out of it.

    The link may be somebody else's, and lead to what the user has never meant to show.

    Args:
        folder: whose files are read.
        ignoring: name of a folder in it from which nothing is read.

    Raises:
        UserError: names the link.
    """
    check_no_link(folder)
    top = os.path.realpath(folder)
    for root, folders, names in os.walk(top):
        if root == top:
            folders[:] = [name for name in folders if name != ignoring]
        for path in (f"{root}/{name}" for name in (*folders, *names)):
            if os.path.islink(path) and os.path.commonpath([top, os.path.realpath(path)]) != top:
                raise _link_error(path)


def _link_error(link: str) -> UserError:
    return UserError(
        f"expected no link at {link}, got one that leads to {os.readlink(link)}; replace it by what it leads to, or "
        "delete it"
    )


# --- errors ----------------------------------------------------------------------------------------------------------


class CheckedFile(io.FileIO):
    """A file whose errors in writing are of ``as_user_error``, and kept.

    They are turned into ``UserError`` here and not around the whole block of ``writing``: that block also draws images
    between two writes, and an OSError from there is not the disk's.
    """

    def __init__(self, file: Path | int, mode: str, *, target: str) -> None:
        self.target = target
        self._failure: UserError | None = None
        with as_user_error(target, writing=True):
            super().__init__(file, mode)

    def write(self, data: Any) -> int:
        try:
            with as_user_error(self.target, writing=True):
                return super().write(data)
        except UserError as error:
            self._failure = error
            raise

    def check(self) -> None:
        """Raise the error that writing has met, if any."""
        if self._failure is not None:
            raise self._failure from None


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
    kept = "what is committed stays"
    if getattr(error, "errno", None) == errno.EFBIG:
        remedy = "allow larger files (ulimit -f), or choose another disk"
        return UserError(f"expected room for {path}, got: {reason}; {remedy}; {kept}")
    if getattr(error, "errno", None) in DISK_FULL:
        return UserError(f"expected room for {path}, got: {reason}; free some and give the same command again; {kept}")
    remedy = remedy_for(error) if is_exhausted(error) else "check the permissions, or choose another folder"
    return UserError(f"expected {path} to be usable, got: {reason}; {remedy}; {kept}")


# --- names and folders -----------------------------------------------------------------------------------------------


def _temporary_name(name: str) -> str:
    """A name for a file until it is complete; with a random end, since two processes may write the same file."""
    return f".prismkd-{_cut(name)}.{secrets.token_hex(8)}.tmp"


def _cut(name: str) -> str:
    """As much of a file's name as its temporary name has room for."""
    return os.fsencode(name)[:MAX_NAME].decode("utf-8", "ignore")  # no half character, which some disks refuse


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure: it is a change of the folder, which is synced apart from the file."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise
