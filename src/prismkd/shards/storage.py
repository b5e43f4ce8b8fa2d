"""A folder of files, on a disk or an object store, in which a file appears whole or not at all.

All images are written through here, so that a process killed at any moment leaves no half file under a final name.
``prismkd.files`` serves local folders, and fsspec the object stores.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from prismkd.errors import UserError
from prismkd.files.documents import MAX_BYTES
from prismkd.files.machine import remedy_for
from prismkd.files.plain import open_plain
from prismkd.files.write import (
    BUFFER,
    CheckedFile,
    as_user_error,
    disk_error,
    remove,
    remove_leftovers,
    writing,
)

# Packages whose exceptions are not OSError, by the first part of the module's name
CLIENT_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs")
# Object stores by scheme, with the package that makes fsspec open them
STORE_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


class Storage:
    """The files below a folder or a URL such as ``s3://bucket/folder``; their names use ``/``.

    On a disk a file is written under a temporary name, synced and renamed; an object store replaces an object in one
    step by itself. No link below the folder is followed in writing and deleting.

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
            with as_user_error(str(directory)):
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
        """The contents of a small file, such as a record.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: it is too large, or the machine or an object store refuses it.
        """
        with self.reading(name) as file, _as_user_error(self / name):
            contents = file.read(MAX_BYTES + 1)  # a file without content, of any size, takes no room on a disk
        if len(contents) > MAX_BYTES:
            raise UserError(f"expected at most {MAX_BYTES >> 20} MiB in {self / name}, got more; copy it again")
        return contents

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
    def writing(self, name: str, *, sync: bool = True) -> Iterator[BinaryIO]:
        """A file to write. It appears under ``name`` all at once when the block ends, and not at all when that raises.

        Args:
            name: of the file.
            sync: whether to wait until a disk has it. Off for one of many files that can be made again, never for a
                shard.

        Raises:
            UserError: the disk is full or refuses the file; a file that was there before stays.
        """
        if self.local is None:
            yield from self._upload(name)
            return
        with writing(self.local / name, below=self.local, sync=sync) as file:
            yield file

    def _upload(self, name: str) -> Iterator[BinaryIO]:
        """Write to a local temporary file, and upload it at the end.

        Streaming would be quicker, but closing a store's stream after an error commits what was written by then.
        """
        system, root = self._remote
        with tempfile.TemporaryFile(buffering=0) as spool:
            raw = CheckedFile(os.dup(spool.fileno()), "wb", target=f"{self / name} in {tempfile.gettempdir()}")
            try:
                with io.BufferedWriter(raw, BUFFER) as file:
                    yield file
            except Exception:
                raw.check()
                raise
            spool.seek(0)
            with _as_user_error(self / name, writing=True):
                # Object stores have no folders, and would make a bucket instead; other file systems need the folder
                if self.url.partition("://")[0] not in STORE_PACKAGES:
                    system.makedirs(PurePosixPath(f"{root}/{name}").parent.as_posix(), exist_ok=True)
                with system.open(f"{root}/{name}", "wb") as target:
                    shutil.copyfileobj(spool, target, 2**22)

    def write(self, name: str, data: bytes, *, sync: bool = True) -> None:
        """Write a file, or replace it, all at once; arguments and errors as of ``writing``."""
        with self.writing(name, sync=sync) as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""
        if self.local is not None:
            remove(self.local / name, below=self.local)
        elif self.exists(name):
            system, root = self._remote
            with _as_user_error(self / name):
                system.rm_file(f"{root}/{name}")

    def remove_leftovers(self, name: str) -> None:
        """Delete the temporary files of this file's killed writers. An object store has none of unfinished objects."""
        if self.local is not None:
            remove_leftovers(self.local / name, below=self.local)


@contextmanager
def _as_user_error(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turn the errors of disks and object stores into a ``UserError`` with a remedy.

    A FileNotFoundError passes unless ``writing``: a missing file is an answer to the caller and no fault of the disk.
    """
    try:
        with as_user_error(path, writing=writing):
            yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if not isinstance(error, NotImplementedError) and package not in CLIENT_PACKAGES:
            raise
        raise disk_error(error, path) from None


def _opened(path: Path) -> BinaryIO:
    """A file opened for reading; a machine that has no handle left for it, or no permission, is a ``UserError``."""
    try:
        return open_plain(path)
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
