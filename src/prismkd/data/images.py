"""Labelled images, kept as files or encoded bytes and decoded a batch at a time: 50,000 photos don't fit as floats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prismkd.errors import UserError

BATCH = 128
NUM_DECODERS = 8  # threads: Pillow decodes outside of Python's lock
NUM_NAMED = 5  # corrupt images that an error names
GRAY = ("1", "L")

Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image as it is stored: where it is, for errors, and how its PNG, JPEG, WebP, ... bytes are opened."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Form:
    """What every image is decoded to: ``mode`` L or RGB, and ``side`` pixels, or None for the size that they have."""

    mode: str
    side: int | None

    def decode(self, image: EncodedImage) -> np.ndarray:
        """uint8 (channels, height, width)."""
        with image.open() as file, Image.open(file) as picture:
            pixels = np.asarray(_square(picture.convert(self.mode), self.side))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def check(self, image: EncodedImage) -> None:
        """Decode an image, and keep nothing of it."""
        self.decode(image)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, labels (n,) int64 and each image's domain (n,).

    Attributes:
        encoded: the images as they are stored.
        labels: (n,) int64.
        domains: (n,) names.
        form: what images are decoded to.
        source: where they are from, for errors.
    """

    encoded: Sequence[EncodedImage]
    labels: Tensor
    domains: np.ndarray
    form: Form
    source: str

    def __len__(self) -> int:
        return len(self.encoded)

    @cached_property
    def images(self) -> Tensor:
        """All images (n, channels, height, width), float32 in [0, 1]: for sets that fit in memory."""
        return torch.cat(list(self.batches()))

    def batches(self, batch_size: int = BATCH) -> Iterator[Tensor]:
        """The images in order, float32 (batch, channels, height, width) in [0, 1], of which one batch is in memory."""
        with ThreadPoolExecutor(NUM_DECODERS) as pool:
            for start in range(0, len(self), batch_size):
                pixels = list(pool.map(self.form.decode, self.encoded[start : start + batch_size]))
                yield torch.from_numpy(np.stack(pixels)).float().div(255)

    def domain(self, name: str) -> LabelledImages:
        """The part of one domain."""
        return self.subset(np.flatnonzero(self.domains == name))

    def subset(self, indices: np.ndarray) -> LabelledImages:
        """Some of the images, in the order of ``indices``."""
        encoded = [self.encoded[index] for index in indices]
        return LabelledImages(encoded, self.labels[indices], self.domains[indices], self.form, self.source)

    def check(self) -> None:
        """Decode every image once.

        Raises:
            UserError: some don't decode; it says how many, and names the first.
        """
        refuse_corrupt(self.encoded, self.form.check, self.source)

    def fingerprint(self) -> str:
        """SHA-256 of the stored bytes and labels in their order: equal where two runs test on the same images."""
        digest = hashlib.sha256()
        for image, label in zip(self.encoded, self.labels.tolist(), strict=True):
            with image.open() as file:
                digest.update(hashlib.sha256(file.read()).digest() + label.to_bytes(4, "little"))
        return digest.hexdigest()


def common_form(images: Sequence[EncodedImage], source: str, image_size: int, usual_size: int | None) -> Form:
    """The form that fits all images: gray where all are gray, and cropped only where they differ in size.

    Args:
        images: of which only the headers are read.
        source: where they are from, for errors.
        image_size: the side that the user wants, 0 for none.
        usual_size: the side for images of several sizes where the user wants none.

    Raises:
        UserError: images without a readable header, or of several sizes and no size is known.
    """
    headers = refuse_corrupt(images, _header, source)
    sizes, modes = {size for size, _ in headers}, {mode for _, mode in headers}
    side = image_size or (usual_size if len(sizes) > 1 else None)
    if side is None and len(sizes) > 1:
        raise UserError(
            f"expected images of one size in {source}, got {sorted(sizes)[:3]}; set evaluation.image_size to what "
            "their shorter side is resized to before a square is cut out"
        )
    return Form("L" if modes <= set(GRAY) else "RGB", side)


def refuse_corrupt(images: Sequence[EncodedImage], read: Callable[[EncodedImage], Read], source: str) -> list[Read]:
    """What ``read`` makes of every image.

    Raises:
        UserError: it failed for some; all were tried, and the error counts them and names the first.
    """
    with ThreadPoolExecutor(NUM_DECODERS) as pool:
        results = list(pool.map(lambda image: _attempt(read, image), images))
    read_well, corrupt = list[Read](), list[tuple[str, Exception]]()
    for image, result in zip(images, results, strict=True):
        if isinstance(result, Exception):
            corrupt.append((image.name, result))
        else:
            read_well.append(result)
    if corrupt:
        named = "; ".join(f"{name}: {str(error)[:60]}" for name, error in corrupt[:NUM_NAMED])
        more = f"; and {len(corrupt) - NUM_NAMED} more" if len(corrupt) > NUM_NAMED else ""
        raise UserError(
            f"expected images that decode in {source}, got {len(corrupt)} of {len(images)} that do not "
            f"({named}{more}); replace or remove them"
        )
    return read_well


def _attempt(read: Callable[[EncodedImage], Read], image: EncodedImage) -> Read | Exception:
    try:
        return read(image)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        return error


def _header(image: EncodedImage) -> tuple[tuple[int, int], str]:
    with image.open() as file, Image.open(file) as picture:
        return picture.size, picture.mode


def _square(picture: Image.Image, side: int | None) -> Image.Image:
    """The shorter side resized to ``side``, and the middle cut out."""
    if side is None or picture.size == (side, side):
        return picture
    width, height = picture.size
    scale = side / min(width, height)
    width, height = max(side, round(width * scale)), max(side, round(height * scale))
    left, top = (width - side) // 2, (height - side) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))
