"""Real images of any size, for a student's world: each resized to the same square, in the colors of the others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial

import numpy as np
from torch import Tensor

from prismkd.data import EncodedImage, Geometry, LabeledImages
from prismkd.data.decode import decode, read_all
from prismkd.distillation.cache import CachePlace, Picture, Pictures, cached
from prismkd.distillation.training_set import Images
from prismkd.errors import UserError


def open_files(files: LabeledImages, side: int, mode: str, place: CachePlace) -> tuple[Images, Tensor]:
    """Labeled image files of any size, decoded once into a cache, and their labels (n,).

    Args:
        files: found by ``load_labeled_images``.
        side: the shorter side is resized to it, and the middle square kept; small pictures are enlarged.
        mode: L (gray) or RGB.
        place: of the cache.

    Raises:
        UserError: some don't decode, which it names; or there are too many for the cache.
    """
    pictures = _pictures(files, side, mode)
    if pictures.num_bytes > place.max_bytes:
        raise UserError(
            f"expected real images of up to {place.max_bytes / 1e9:.3g} GB at {side} px, which is "
            f"distillation.cache_gigabytes, got {len(files)} of {pictures.num_bytes / 1e9:.3g} GB in {files.source}; "
            "raise it, or name fewer images"
        )
    return cached(pictures, place)


def _pictures(files: LabeledImages, side: int, mode: str) -> Pictures:
    labels = files.labels.tolist()

    def read() -> Iterator[Picture]:
        for image, label in zip(files.encoded, labels, strict=True):
            yield Picture(image.name, label, partial(_pixels, image, side, mode))

    digest = hashlib.sha256(repr((side, mode)).encode())
    states = read_all(files.encoded, _state, files.source)
    for image, label, state in zip(files.encoded, labels, states, strict=True):
        digest.update(f"{image.name} {label} {state}\n".encode(errors="surrogateescape"))
    shape = (1 if mode == "L" else 3, side, side)
    return Pictures(files.source, digest.hexdigest(), len(files), shape, read)


def _pixels(image: EncodedImage, side: int, mode: str) -> np.ndarray:
    with image.open() as file:
        return np.rint(decode(file, mode, Geometry.square(side)) * 255).astype(np.uint8)


def _state(image: EncodedImage) -> str:
    """What becomes another one when an image is exchanged: a file's size and time, or the content of a part of one."""
    with image.open() as file:
        try:
            status = os.fstat(file.fileno())
        except OSError:  # in memory, read from a tar or a table
            return hashlib.sha256(file.read()).hexdigest()
        return f"{status.st_size} {status.st_mtime_ns}"
