"""Images decoded and resized once, into one file of bytes that every process maps into its memory.

The file holds the images, uint8 (n, channels, height, width), behind them their labels, int64 (n,), and the SHA-256 of
all that. It appears whole or not at all, and its name says of which images and which side it is:
``cache-256-0123456789ab.bin``.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prismkd.data.decode import known_formats, refuse_failed
from prismkd.errors import UserError
from prismkd.files import make_folder, remove, remove_leftovers, writing
from prismkd.progress import Track, duration, say, silent

NAME = r"cache-\d+-[0-9a-f]{12}\.bin"
MAX_DECODERS, LOOKAHEAD = 32, 4  # threads, as Pillow decodes and resizes outside of Python's lock; images per thread
CHUNK, DIGEST_BYTES = 2**22, hashlib.sha256().digest_size
NUM_TIMED = 16  # images from which the time is estimated


@dataclass(frozen=True)
class CachePlace:
    """Where a cache may lie.

    Attributes:
        folder: on a disk.
        max_bytes: up to which images are cached.
        track: shows how far the building is.
        lock: held while it is built, so that of several processes one builds it.
        replaces: whether other caches in the folder are of no use any more.
    """

    folder: Path
    max_bytes: float
    track: Track = silent
    lock: Callable[[], AbstractContextManager[None]] = nullcontext
    replaces: bool = False


@dataclass(frozen=True)
class Picture:
    """An image to be cached: its name for errors, its label, and what decodes it to uint8 (channels, height, width)."""

    name: str
    label: int
    decode: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Pictures:
    """A set of images to be cached.

    Attributes:
        source: where they are from, for errors.
        digest: equal for equal sets alone.
        count: how many they are.
        shape: (channels, height, width) of each when it is decoded.
        read: reads them in order.
        remedy: for images that are damaged.
    """

    source: str
    digest: str
    count: int
    shape: tuple[int, ...]
    read: Callable[[], Iterable[Picture]]
    remedy: str = "replace or remove them"

    @property
    def num_bytes(self) -> int:
        """Of the images."""
        return self.count * math.prod(self.shape)


class CachedImages:
    """Images in a cache file, mapped into memory: what is used often stays there as long as there is room."""

    def __init__(self, path: Path, pictures: Pictures) -> None:
        self.path, self.image_shape = path, pictures.shape
        # Shared, since a private mapping of a file larger than the memory is refused by some kernels; nothing writes.
        mapped = torch.from_file(str(path), shared=True, size=pictures.num_bytes, dtype=torch.uint8)
        self.images = mapped.view(pictures.count, *pictures.shape)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images (batch, channels, height, width) at each of the indices."""
        for batch in indices:
            yield self.images[batch]


def cached(pictures: Pictures, place: CachePlace) -> tuple[CachedImages, Tensor]:
    """The images from their cache, which is built where it isn't there, and their labels (n,).

    Raises:
        UserError: an image doesn't decode, or there is no room.
    """
    path = place.folder / f"cache-{pictures.shape[1]}-{pictures.digest[:12]}.bin"
    with place.lock():
        if not _is_whole(path, pictures):
            if place.replaces:
                remove_caches(place.folder)
            _build(path, pictures, place.track)
    labels = np.fromfile(path, np.int64, count=pictures.count, offset=pictures.num_bytes)
    return CachedImages(path, pictures), torch.from_numpy(labels)


def remove_caches(folder: Path) -> None:
    """Delete the caches that lie in a folder."""
    for path in folder.glob("cache-*.bin"):
        if re.fullmatch(NAME, path.name):
            remove(path)


def _is_whole(path: Path, pictures: Pictures) -> bool:
    """Whether the file holds what was written; one that is damaged is built again."""
    if not path.is_file() or path.stat().st_size != _file_size(pictures):
        return False
    with path.open("rb") as file:
        digest, left = hashlib.sha256(), _file_size(pictures) - DIGEST_BYTES
        while chunk := file.read(min(CHUNK, left)):
            digest.update(chunk)
            left -= len(chunk)
        return file.read() == digest.digest()


def _file_size(pictures: Pictures) -> int:
    return pictures.num_bytes + pictures.count * np.dtype(np.int64).itemsize + DIGEST_BYTES


def _build(path: Path, pictures: Pictures, track: Track) -> None:
    """Write the file, after saying how large it will be and about how long it will take."""
    num_threads = min(MAX_DECODERS, _num_cpus())
    _check_room(path.parent, pictures)
    known_formats()
    text = f"caching {pictures.count:,} images at {pictures.shape[1]} px"
    cost = f"{_in_words(_file_size(pictures))} in {path.parent}, about {_estimate(pictures, num_threads)}"
    say(f"{text}: {cost}")
    labels, corrupt = list[int](), list[tuple[str, Exception]]()
    digest = hashlib.sha256()
    remove_leftovers(path)
    with writing(path) as file, track("decoding images", pictures.count) as progress:
        for picture, pixels in _decoded(pictures.read(), num_threads):
            if isinstance(pixels, Exception):
                corrupt.append((picture.name, pixels))
            elif not corrupt:
                _check_shape(picture, pixels, pictures)
                digest.update(data := pixels.tobytes())
                file.write(data)
                labels.append(picture.label)
            progress(1)
        refuse_failed(corrupt, pictures.count, pictures.source, pictures.remedy)
        digest.update(data := np.array(labels, np.int64).tobytes())
        file.write(data + digest.digest())


def _decoded(pictures: Iterable[Picture], num_threads: int) -> Iterator[tuple[Picture, np.ndarray | Exception]]:
    """Each picture in order, and its pixels or why it doesn't decode; a few are decoded ahead."""
    with ThreadPoolExecutor(num_threads) as pool:
        pending = deque[tuple[Picture, Future[np.ndarray | Exception]]]()
        try:
            for picture in pictures:
                pending.append((picture, pool.submit(_attempt, picture)))
                if len(pending) > LOOKAHEAD * num_threads:
                    first, pixels = pending.popleft()
                    yield first, pixels.result()
            for picture, pixels in pending:
                yield picture, pixels.result()
        finally:
            for _, pixels in pending:  # after an error or an interruption nobody needs them
                pixels.cancel()


def _attempt(picture: Picture) -> np.ndarray | Exception:
    try:
        return picture.decode()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        return error


def _estimate(pictures: Pictures, num_threads: int) -> str:
    """Time to decode all pictures, from the first ones, in words."""
    first = list(islice(pictures.read(), NUM_TIMED))
    _attempt(first[0])  # not timed: Pillow loads its decoders
    start = time.perf_counter()
    for picture in first:
        _attempt(picture)
    seconds = (time.perf_counter() - start) / len(first) * pictures.count / min(num_threads, pictures.count)
    return duration(max(seconds, 1))


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _num_cpus() -> int:
    """CPUs that this process may use, whatever number of threads torch has: while a cache is built, nothing else is."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_room(folder: Path, pictures: Pictures) -> None:
    make_folder(folder)
    free, needed = shutil.disk_usage(folder).free, _file_size(pictures)
    if free < needed:
        raise UserError(
            f"expected {_in_words(needed)} in {folder} for {pictures.count} decoded images, got {_in_words(free)}; "
            "free some, or set distillation.cache_gigabytes to 0 to decode every batch again"
        )


def _check_shape(picture: Picture, pixels: np.ndarray, pictures: Pictures) -> None:
    if pixels.shape != pictures.shape:
        raise UserError(
            f"expected images of shape {pictures.shape} in {pictures.source}, got {pixels.shape} of {picture.name}; "
            "set distillation.image_size, to which they are then resized"
        )
