"""Labeled images, kept as files or encoded bytes and decoded a batch at a time: 50,000 photos don't fit as floats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from prismkd.data.decode import NUM_DECODERS, EncodedImage, Form, read_all
from prismkd.data.geometry import Geometry

BATCH = 128


@dataclass(frozen=True, eq=False)
class LabeledImages:
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
        """The images in order, float32 (batch, channels, height, width) in [0, 1], of which one batch is in memory.

        Batches are smaller where the geometry leaves images of several sizes.

        Raises:
            UserError: some don't decode; it says how many of all, and names the first.
        """
        with ThreadPoolExecutor(NUM_DECODERS) as pool:
            for start in range(0, len(self), batch_size):
                try:
                    pixels = list(pool.map(self.form.decode, self.encoded[start : start + batch_size]))
                except MemoryError:
                    raise
                except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
                    self.check()
                    raise
                for _, alike in groupby(pixels, key=np.shape):
                    yield torch.from_numpy(np.stack(list(alike)))

    def seen_in(self, geometry: Geometry | None, mode: str | None = None) -> LabeledImages:
        """The images as a classifier's own library would read them: resized and cut with Pillow, in 8 bits.

        Args:
            geometry: the classifier's; None: images are as large as they are, and cut to one size where they differ.
            mode: L for a classifier of gray images, RGB for one of color; None: gray where all images are.
        """
        form = replace(self.form, geometry=geometry, mode=mode or self.form.mode)
        return self if form == self.form else replace(self, form=form)

    def domain(self, name: str) -> LabeledImages:
        """The part of one domain."""
        return self.subset(np.flatnonzero(self.domains == name))

    def subset(self, indices: np.ndarray) -> LabeledImages:
        """Some of the images, in the order of ``indices``."""
        encoded = [self.encoded[index] for index in indices]
        return LabeledImages(encoded, self.labels[indices], self.domains[indices], self.form, self.source)

    def check(self) -> None:
        """Decode every image once.

        Raises:
            UserError: some don't decode; it says how many, and names the first.
        """
        read_all(self.encoded, self.form.check, self.source)

    def fingerprint(self) -> str:
        """SHA-256 of the stored bytes and labels in their order: equal where two runs test on the same images.

        Raises:
            UserError: a file can't be read.
        """
        digest = hashlib.sha256()
        # Of the files and not of their pixels, which would have to be decoded, and not of their names
        contents = read_all(self.encoded, _digest, self.source)
        for own, label in zip(contents, self.labels.tolist(), strict=True):
            digest.update(own + label.to_bytes(4, "little"))
        return digest.hexdigest()


def _digest(image: EncodedImage) -> bytes:
    with image.open() as file:
        return hashlib.sha256(file.read()).digest()
