"""A folder of files, on a disk or an object store, in which a file appears whole or not at all."""

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

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BUFFER = 2**20  # bytes
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs")  # with errors of their own
EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


class Storage:
    """The files below a folder or URL such as ``s3://bucket/folder``; names use ``/``.

    On a disk a file is written under a temporary name, synced and renamed; an object store replaces an object in one
    step by itself.
    """

    def __init__(self, folder: str | Path) -> None:
        self.url = str(folder)

    def __truediv__(self, name: str) -> str:
        """What a file is called in messages."""
        return f"{self.url.rstrip('/')}/{name}"

    @property
    def local(self) -> Path | None:
        """The folder on the disk, or None on an object store."""
        if self.url.startswith("file://"):
            return Path(self.url.replace("file://localhost/", "file:///", 1).removeprefix("file://"))
        return None if "://" in self.url else Path(self.url)

    @property
    def is_passing(self) -> bool:
        """Whether the files are in this process's memory, where no other sees them, and end with it."""
        return self.url.startswith("memory://")

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        """fsspec's file system, and the folder in it."""
        import fsspec

        scheme = self.url.partition("://")[0]
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            remedy = f"pip install {EXTRAS[scheme]}" if scheme in EXTRAS else "use a folder, or s3://bucket/folder"
            raise UserError(
                f"expected a folder or a URL that fsspec opens, got {self.url} ({error}); {remedy}"
            ) from None
        return system, root.rstrip("/")

    # --- reading -------------------------------------------------------------------------------------------------

    def sizes(self, below: str = "") -> dict[str, int]:
        """The bytes of every file right below a sub-folder, by name, from one listing; empty where there is none."""
        if self.local is not None:
            folder = self.local / below
            if not folder.is_dir():
                return {}
            return {path.name: size for path in folder.iterdir() if (size := _size(path)) is not None}
        system, root = self._remote
        system.invalidate_cache()
        try:
            with _teaching(self.url):
                rows = system.ls(f"{root}/{below}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        return {PurePosixPath(row["name"]).name: row["size"] for row in rows if row["type"] == "file"}

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """A file's bytes; None where there is none."""
        if self.local is not None:
            return _size(self.local / name)
        system, root = self._remote
        system.invalidate_cache()
        with _teaching(self.url):
            path = f"{root}/{name}"
            return int(system.size(path)) if system.isfile(path) else None

    def read(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""
        with self.reading(name) as file:
            return file.read()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Many small files, at once where the store can do that; without those that others have removed meanwhile."""
        if self.local is not None:
            found = {}
            for name in names:
                with suppress(FileNotFoundError):
                    found[name] = (self.local / name).read_bytes()
            return found
        system, root = self._remote
        with _teaching(self.url):
            answers = system.cat([f"{root}/{name}" for name in names], on_error="return") if names else {}
            found = {name: answers[f"{root}/{name}"] for name in names}
            for answer in found.values():
                if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                    raise answer
        return {name: answer for name, answer in found.items() if not isinstance(answer, Exception)}

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file opened for reading. Raises FileNotFoundError."""
        if self.local is not None:
            with (self.local / name).open("rb") as file:
                yield file
            return
        system, root = self._remote
        with _teaching(self / name), system.open(f"{root}/{name}", "rb") as file:
            yield file

    # --- writing -------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write that appears under ``name`` all at once when the block ends, and never when it fails.

        Raises:
            UserError: the disk is full or refuses the file; what was there stays.
        """
        if self.local is None:
            yield from self._upload(name)
            return
        path = self.local / name
        temporary = path.with_name(f".tmp-{path.name}.{secrets.token_hex(4)}")
        with _teaching(str(path), writing=True):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with io.BufferedWriter(_File(temporary, path), BUFFER) as file:
                yield file
            with _teaching(str(path), writing=True):
                os.replace(temporary, path)
                _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _upload(self, name: str) -> Iterator[BinaryIO]:
        system, root = self._remote
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with _teaching(self / name, writing=True):
                if self.url.partition("://")[0] not in EXTRAS:  # these know no folders, and would make a bucket
                    system.makedirs(PurePosixPath(f"{root}/{name}").parent.as_posix(), exist_ok=True)
                with system.open(f"{root}/{name}", "wb") as target:
                    shutil.copyfileobj(file, target, 2**22)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""
        with self.writing(name) as file:
            file.write(data)

    def put(self, name: str, data: bytes) -> None:
        """Write one of many files, without waiting for the disk; a crash may leave a part of it."""
        if self.local is None:
            self.write(name, data)
            return
        path = self.local / name
        with _teaching(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        if self.local is not None:
            with _teaching(self / name):
                (self.local / name).unlink(missing_ok=True)
        elif self.exists(name):
            system, root = self._remote
            with _teaching(self / name):
                system.rm_file(f"{root}/{name}")

    def remove_leftovers(self, name: str) -> None:
        """Delete what killed writers of this file left; an object store keeps nothing of an unfinished object."""
        if self.local is not None:
            path = self.local / name
            for leftover in path.parent.glob(f".tmp-{path.name}*"):
                leftover.unlink(missing_ok=True)


class _File(io.FileIO):
    """A file that says which one it stands for when the disk refuses a write, and is on the disk when it is closed.

    Only its own errors are the disk's: what fails while an image is drawn, between two writes, is none of them.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.target = str(target)
        with _teaching(self.target, writing=True):
            super().__init__(path, "wb")

    def write(self, data: Any) -> int:
        with _teaching(self.target, writing=True):
            return super().write(data)

    def close(self) -> None:
        with _teaching(self.target, writing=True):
            if not self.closed:
                os.fsync(self.fileno())
            super().close()


@contextmanager
def _teaching(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what disks and stores say into one line with a remedy; a file that isn't there to be read is no matter."""
    try:
        yield
    except Exception as error:
        of_store = isinstance(error, NotImplementedError) or type(error).__module__.partition(".")[0] in CLIENTS
        if not (of_store or isinstance(error, OSError)) or (isinstance(error, FileNotFoundError) and not writing):
            raise
        reason = getattr(error, "strerror", "") or (str(error) or type(error).__name__).splitlines()[0]
        if getattr(error, "errno", None) in FULL:
            remedy = "free some and give the same command again; what is committed stays"
            raise UserError(f"expected room for {path}, got: {reason}; {remedy}") from None
        remedy = "check the permissions, or choose another folder; what is committed stays"
        raise UserError(f"expected {path} to be usable, got: {reason}; {remedy}") from None


def _size(path: Path) -> int | None:
    """A file's bytes; None where it is none, or has been renamed or removed since it was listed."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _sync_folder(folder: Path) -> None:
    """Put a rename onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_used(path: Path) -> bool:
    """Whether there is something at ``path`` already: a file, or a folder that isn't empty."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def remove_leftovers(directory: Path) -> None:
    """Delete what killed writers of a run's JSON files left; only for who holds the run's lock."""
    for root, _, names in os.walk(directory):
        for name in names:
            if name.startswith(".tmp-"):
                Path(root, name).unlink(missing_ok=True)
