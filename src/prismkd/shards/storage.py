"""A folder of files, on a disk or an object store, in which a file appears whole or not at all.

Everything that a run must not lose is written through here, so that a process killed at any moment leaves no half file
under a final name. fsspec serves the object stores; local folders are served without it, since it doesn't sync files.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from prismkd.errors import UserError
from prismkd.files.machine import remedy_for

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BUFFER = 2**20  # bytes; a tar is written in blocks of 512, and a network disk wants larger ones
# Packages whose exceptions are not OSError, by the first part of the module's name
CLIENT_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs")
# Object stores by scheme, with the package that makes fsspec open them
STORE_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


class Storage:
    """The files below a folder or a URL such as ``s3://bucket/folder``; their names use ``/``.

    On a disk a file is written under a temporary name, synced and renamed; an object store replaces an object in one
    step by itself.

    Args:
        folder: a path, or a URL that fsspec opens. Nothing is created until a file is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.url = str(folder)

    def __truediv__(self, name: str) -> str:
        """The full name of a file for messages: ``storage / "a.json"`` reads as a path does, but is a text."""
        return f"{self.url.rstrip('/')}/{name}"

    @property
    def local(self) -> Path | None:
        """The folder on the disk; None on an object store."""
        if self.url.startswith("file://"):  # RFC 8089: file:///a and file://localhost/a are the same
            return Path(self.url.replace("file://localhost/", "file:///", 1).removeprefix("file://"))
        return None if "://" in self.url else Path(self.url)

    @property
    def is_in_memory(self) -> bool:
        """Whether the files are in this process's memory: no other process sees them, and they end with it."""
        return self.url.startswith("memory://")

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        """fsspec's file system, and the path of the folder in it."""
        import fsspec  # only here: a run on the disk needs none

        scheme = self.url.partition("://")[0]
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            package = STORE_PACKAGES.get(scheme)
            remedy = f"pip install {package}" if package else "use a folder, or s3://bucket/folder"
            raise UserError(
                f"expected a folder or a URL that fsspec opens, got {self.url} ({error}); {remedy}"
            ) from None
        return system, root.rstrip("/")

    # --- reading -------------------------------------------------------------------------------------------------

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The size in bytes of every file directly in a sub-folder, by name; empty where there is no such folder.

        They come from one listing: an object store would need a request for each file otherwise.
        """
        if self.local is not None:
            directory = self.local / folder
            if not directory.is_dir():
                return {}
            return {path.name: size for path in directory.iterdir() if (size := _size(path)) is not None}
        system, root = self._remote
        system.invalidate_cache()  # fsspec remembers listings, but other processes write here too
        try:
            with _as_user_error(self.url):
                rows = system.ls(f"{root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        return {PurePosixPath(row["name"]).name: row["size"] for row in rows if row["type"] == "file"}

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """A file's size in bytes; None where there is no such file."""
        if self.local is not None:
            return _size(self.local / name)
        system, root = self._remote
        system.invalidate_cache()
        with _as_user_error(self.url):
            path = f"{root}/{name}"
            return int(system.size(path)) if system.isfile(path) else None

    def read(self, name: str) -> bytes:
        """The contents of a file.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: the machine or an object store refuses it.
        """
        with self.reading(name) as file:
            return file.read()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of many small files by name, requested at once from an object store.

        Files that are gone, which another process may have removed since they were listed, are left out.
        """
        if self.local is not None:
            contents = {}
            for name in names:
                with suppress(FileNotFoundError):
                    contents[name] = self.read(name)
            return contents
        system, root = self._remote
        with _as_user_error(self.url):
            # on_error="return" puts an exception in the place of a file's contents: one missing file must not cost all
            by_path = system.cat([f"{root}/{name}" for name in names], on_error="return") if names else {}
            answers = {name: by_path[f"{root}/{name}"] for name in names}
            for answer in answers.values():
                if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                    raise answer
        return {name: answer for name, answer in answers.items() if not isinstance(answer, Exception)}

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file opened for reading.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: the machine or an object store refuses it.
        """
        if self.local is not None:
            with _opened(self.local / name) as file:
                yield file
            return
        system, root = self._remote
        with _as_user_error(self / name), system.open(f"{root}/{name}", "rb") as file:
            yield file

    # --- writing -------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write. It appears under ``name`` all at once when the block ends, and not at all when that raises.

        Raises:
            UserError: the disk is full or refuses the file; a file that was there before stays.
        """
        if self.local is None:
            yield from self._upload(name)
            return
        path = self.local / name
        # In the same folder, as a rename is atomic within one file system only; with a random end, since two processes
        # may write the same file. The name starts so that ``remove_leftovers`` finds what a killed writer left.
        temporary = path.with_name(f".tmp-{path.name}.{secrets.token_hex(4)}")
        with _as_user_error(str(path), writing=True):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with io.BufferedWriter(_SyncedFile(temporary, path), BUFFER) as file:
                yield file
            with _as_user_error(str(path), writing=True):
                os.replace(temporary, path)
                _sync_folder(path.parent)
        except BaseException:  # a KeyboardInterrupt too
            temporary.unlink(missing_ok=True)
            raise

    def _upload(self, name: str) -> Iterator[BinaryIO]:
        """Write to a local temporary file, and upload it at the end.

        Streaming would be quicker, but closing a store's stream after an error commits what was written by then.
        """
        system, root = self._remote
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with _as_user_error(self / name, writing=True):
                # Object stores have no folders, and would make a bucket instead; other file systems need the folder
                if self.url.partition("://")[0] not in STORE_PACKAGES:
                    system.makedirs(PurePosixPath(f"{root}/{name}").parent.as_posix(), exist_ok=True)
                with system.open(f"{root}/{name}", "wb") as target:
                    shutil.copyfileobj(file, target, 2**22)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it, all at once; errors as of ``writing``."""
        with self.writing(name) as file:
            file.write(data)

    def write_unsynced(self, name: str, data: bytes) -> None:
        """Write one of many files without waiting for the disk, which is far quicker; a crash may leave a part of it.

        For an export, which is done again after a crash; never for a shard.
        """
        if self.local is None:
            self.write(name, data)
            return
        path = self.local / name
        with _as_user_error(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""
        if self.local is not None:
            with _as_user_error(self / name):
                (self.local / name).unlink(missing_ok=True)
        elif self.exists(name):
            system, root = self._remote
            with _as_user_error(self / name):
                system.rm_file(f"{root}/{name}")

    def remove_leftovers(self, name: str) -> None:
        """Delete the temporary files of this file's killed writers. An object store has none of unfinished objects."""
        if self.local is not None:
            path = self.local / name
            for leftover in path.parent.glob(f".tmp-{path.name}*"):
                leftover.unlink(missing_ok=True)


class _SyncedFile(io.FileIO):
    """A temporary file that is on the disk when it is closed, and whose errors name the final file.

    The errors are turned into ``UserError`` here and not around the whole block of ``Storage.writing``: that block also
    draws images between two writes, and an OSError from there is not the disk's.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.target = str(target)
        with _as_user_error(self.target, writing=True):
            super().__init__(path, "wb")

    def write(self, data: Any) -> int:
        with _as_user_error(self.target, writing=True):
            return super().write(data)

    def close(self) -> None:
        with _as_user_error(self.target, writing=True):
            if not self.closed:
                os.fsync(self.fileno())
            super().close()


@contextmanager
def _as_user_error(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turn the errors of disks and object stores into a ``UserError`` with a remedy.

    A FileNotFoundError passes unless ``writing``: a missing file is an answer to the caller and no fault of the disk.
    """
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        of_store = isinstance(error, NotImplementedError) or package in CLIENT_PACKAGES
        if not (of_store or isinstance(error, OSError)) or (isinstance(error, FileNotFoundError) and not writing):
            raise
        reason = getattr(error, "strerror", "") or (str(error) or type(error).__name__).splitlines()[0]
        if getattr(error, "errno", None) in DISK_FULL:
            remedy = "free some and give the same command again; what is committed stays"
            raise UserError(f"expected room for {path}, got: {reason}; {remedy}") from None
        remedy = "check the permissions, or choose another folder; what is committed stays"
        raise UserError(f"expected {path} to be usable, got: {reason}; {remedy}") from None


def _opened(path: Path) -> BinaryIO:
    """A file opened for reading; a machine that has no handle left for it, or no permission, is a ``UserError``."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"expected to read {path}, got: {error.strerror}; {remedy_for(error)}") from None


def _size(path: Path) -> int | None:
    """A file's size in bytes; None for a folder, and for a file that was renamed or removed since it was listed."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure: it is a change of the folder, which is synced apart from the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_used(path: Path) -> bool:
    """Whether there is a file at ``path``, or a folder that isn't empty."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def remove_temporary_files(directory: Path) -> None:
    """Delete the temporary files of killed writers anywhere below ``directory``.

    Only for the holder of the run's lock: the temporary files of living writers are not told apart.
    """
    for root, _, names in os.walk(directory):
        for name in names:
            if name.startswith(".tmp-"):
                Path(root, name).unlink(missing_ok=True)
