"""Images in shards: kept in memory as uint8, decoded into a cache file, or read from the tars one by one."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from prismkd.data.decode import reason_of
from prismkd.distillation.cache import CachePlace, Picture, Pictures, cached
from prismkd.distillation.training_set import Images, TensorImages
from prismkd.errors import UserError
from prismkd.files.machine import is_of_machine, remedy_for
from prismkd.shards import (
    Encoded,
    Folder,
    Storage,
    channels_first,
    read_encoded,
    read_manifest,
    read_samples,
    scan,
    storage_of,
)
from prismkd.shards.ledger import ShardRecord, tar_name
from prismkd.shards.reading import walk_shard
from prismkd.shards.samples import DELETE, decode_image
from prismkd.signals import end_with_parent

ASK = "set distillation.stored_logits to false, and the teacher is asked"
PREFETCH = 4  # batches per worker


def open_images(
    folder: Folder, max_bytes: float, num_workers: int, side: int | None = None, place: CachePlace | None = None,
    shards: Collection[int] | None = None,
) -> tuple[Images, Tensor]:  # fmt: skip
    """The images of a data set and their labels (n,), in its order; verify it first.

    Images that have the wanted size and fit are kept in memory. Others are decoded and resized once, into a file, and
    where that would be too large, whenever they are needed.

    Args:
        max_bytes: as uint8, up to which the images are kept in memory.
        num_workers: processes that decode images which are neither in memory nor in a file.
        side: of the squares that are wanted; the shorter side is resized and the middle kept. None: images as they are.
        place: of the file; None: there is none.
        shards: numbers of those to read; None: all.

    Raises:
        UserError: there is no image, they differ in shape and no ``side`` is wanted, or the disk has no room.
    """
    storage = storage_of(folder)
    sample = next(read_samples(storage, shards), None)
    if sample is None:
        raise UserError(f"expected images in {storage.url}, got none; finish the synthesis first")
    records = _records(storage, shards)
    count, shape = sum(record.count for record in records.values()), channels_first(sample.image).shape
    wanted = shape if side is None else (shape[0], side, side)
    if shape == wanted and count * math.prod(shape) <= max_bytes:
        return _in_memory(storage, records, shape, side)
    if place is not None and count * math.prod(wanted) <= place.max_bytes:
        return cached(_pictures(storage, records, wanted, side), place)
    index = TarIndex.of(storage, records)
    return TarImages(storage, index, wanted, num_workers, side), torch.from_numpy(index.labels)


def read_logits(folder: Folder) -> Tensor | None:
    """The teacher's logits (n, classes) float16 that were kept with a data set's images, in its order; or None.

    Raises:
        UserError: some aren't finite, or there are several numbers of them.
    """
    logits = []
    for sample in read_encoded(folder):
        if sample.logits is None:
            return None
        if not np.isfinite(sample.logits).all():
            raise UserError(f"expected finite logits of {sample.source}, got others; {ASK}")
        logits.append(sample.logits)
    if len({len(own) for own in logits}) > 1:
        raise UserError(
            f"expected as many logits of each image in {storage_of(folder).url}, got several numbers; {ASK}"
        )
    return torch.from_numpy(np.stack(logits)) if logits else None


def _records(storage: Storage, shards: Collection[int] | None) -> dict[int, ShardRecord]:
    """The records of the committed shards among ``shards``, ascending."""
    records = sorted(scan(storage).records.items())
    return {shard: record for shard, record in records if shards is None or shard in shards}


def _in_memory(
    storage: Storage, records: dict[int, ShardRecord], shape: tuple[int, ...], side: int | None
) -> tuple[Images, Tensor]:
    count = sum(record.count for record in records.values())
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int64)
    for place, sample in enumerate(read_samples(storage, records)):
        image = fitted(sample.image, side)
        if image.shape != shape:
            raise UserError(
                f"expected images of shape {shape} in {storage.url}, got {image.shape} at {sample.index}; "
                "draw them again with one generator.image_size, or set distillation.image_size"
            )
        images[place], labels[place] = image, sample.label
    return TensorImages(torch.from_numpy(images)), torch.from_numpy(labels)


def fitted(image: np.ndarray, side: int | None) -> np.ndarray:
    """An image (height, width) or (height, width, 3) as (channels, side, side): its middle, with Pillow's bicubic.

    With side None it stays as large as it is.
    """
    if side is not None and image.shape[:2] != (side, side):
        image = np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.BICUBIC))
    return channels_first(image)


def _pictures(
    storage: Storage, records: dict[int, ShardRecord], shape: tuple[int, ...], side: int | None
) -> Pictures:  # fmt: skip
    """The images of a data set as they go into a cache."""

    def read() -> Iterator[Picture]:
        for sample in read_encoded(storage, records):
            yield Picture(sample.source, sample.label, partial(_decode, sample, side))

    # Of the shards' own checksums: equal images, in equal order.
    digest = hashlib.sha256(repr((shape, [(shard, record.sha256) for shard, record in records.items()])).encode())
    count = sum(record.count for record in records.values())
    return Pictures(storage.url, digest.hexdigest(), count, shape, read, DELETE)


def _decode(sample: Encoded, side: int | None) -> np.ndarray:
    return fitted(decode_image(sample.contents, sample.extension, sample.metadata.get("mode", "")), side)


@dataclass(frozen=True)
class TarIndex:
    """Where each image is: its shard, the first byte and the length in the tar; its label and how to decode it."""

    shards: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    extensions: np.ndarray
    modes: np.ndarray

    @classmethod
    def of(cls, storage: Storage, records: dict[int, ShardRecord]) -> TarIndex:
        """Read the headers, labels and modes of these shards."""
        rows, manifest = [], read_manifest(storage)
        for shard, record in records.items():
            for sample, image in walk_shard(storage, shard, manifest, record.count, with_images=False):
                mode = sample.metadata.get("mode", "")
                rows.append((shard, image.offset, image.size, sample.label, sample.extension, mode))
        shards, offsets, sizes, labels, extensions, modes = map(np.array, zip(*rows, strict=True))
        return cls(shards, offsets, sizes, labels.astype(np.int64), extensions, modes)


class TarImages(Dataset):
    """Images that stay in their tars; worker processes read and decode the next batches."""

    def __init__(
        self, storage: Storage, index: TarIndex, image_shape: tuple[int, ...], num_workers: int, side: int | None = None
    ) -> None:
        self.storage, self.index, self.image_shape, self.num_workers = storage, index, image_shape, num_workers
        self.side, self._process = side, os.getpid()

    def __len__(self) -> int:
        return len(self.index.labels)

    def __getitem__(self, indices: Tensor) -> Tensor | UserError:
        """The images at these indices, each shard opened once; an error is handed on, not raised.

        What a worker process raises would reach the user with the traceback of that process.
        """
        try:
            return torch.from_numpy(self._images(indices.numpy()))
        except UserError as error:
            return error

    def _images(self, wanted: np.ndarray) -> np.ndarray:
        if self._process != os.getpid():  # in a worker: a connection to a store can't be shared with it
            self.storage, self._process = Storage(self.storage.url), os.getpid()
        shards, images = self.index.shards[wanted], np.empty((len(wanted), *self.image_shape), np.uint8)
        for shard in np.unique(shards):
            name = self.storage / tar_name(int(shard))
            try:
                with self.storage.reading(tar_name(int(shard))) as file:
                    for row in np.flatnonzero(shards == shard):
                        images[row] = self._read(file, int(wanted[row]))
            except (MemoryError, UserError):
                raise
            except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
                remedy = remedy_for(error) if is_of_machine(error) else DELETE
                raise UserError(f"expected an image in {name}, got: {reason_of(error)}; {remedy}") from None
        return images

    def _read(self, tar: BinaryIO, at: int) -> np.ndarray:
        tar.seek(int(self.index.offsets[at]))
        contents = tar.read(int(self.index.sizes[at]))
        image = fitted(decode_image(contents, str(self.index.extensions[at]), str(self.index.modes[at])), self.side)
        if image.shape != self.image_shape:
            raise ValueError(f"one of shape {image.shape} in place of {self.image_shape}")
        return image

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each batch, in order.

        Raises:
            UserError: one is damaged, or can't be read.
        """
        # torch refuses prefetch_factor where no worker could prefetch.
        options = {"prefetch_factor": PREFETCH, "worker_init_fn": _end_with_training} if self.num_workers else {}
        # The sampler gives whole batches of indices, which batch_size=None hands on as they are.
        loader = DataLoader(self, sampler=indices, batch_size=None, num_workers=self.num_workers, **options)  # type: ignore[arg-type]
        for images in loader:
            if isinstance(images, UserError):
                raise images
            yield images


def _end_with_training(worker: int) -> None:
    """In a process that reads; torch's own look at its parent comes every five seconds, between two batches."""
    end_with_parent(os.getppid())
