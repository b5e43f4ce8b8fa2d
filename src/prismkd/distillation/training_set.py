"""What a student learns from: synthetic images, real ones, or a mixture; batches are pure functions of (seed, step)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prismkd.errors import UserError

LOOK_SIDE = 64  # pixels, up to which as many images are shown as a caller would have


class Images(Protocol):
    """Images of one shape that are looked up by their indices."""

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images (batch, channels, height, width) at each of the ``indices`` (batch,), uint8 or float."""


@dataclass(frozen=True)
class TensorImages:
    """Images in memory, uint8 or float in [0, 1]."""

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        for batch in indices:
            yield self.images[batch]


class TrainingSet:
    """Images with their labels, where these are known, and a share of real ones in every batch.

    Args:
        images: (n, channels, height, width) as uint8 or as float in [0, 1], or where to look them up.
        labels: (n,) intended labels.
        real: further images and their labels.
        real_share: share of each batch that is drawn from ``real``.
        logits: (n, classes) the teacher's, where they were kept when the images were drawn; for the fast mode.

    Raises:
        UserError: no images, or real ones of another shape.
    """

    def __init__(
        self, images: Tensor | Images, labels: Tensor | None = None, real: tuple[Tensor | Images, Tensor] | None = None,
        real_share: float = 0.0, logits: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.images = _looked_up(images)
        self.labels, self.real_share, self.logits = labels, real_share, logits
        self.real: Images | None = None
        if len(self.images) == 0:
            raise UserError("expected images to distil from, got none; run `prismkd synthesize` first")
        if real is not None and real_share > 0:
            self._join(_looked_up(real[0]), real[1])

    def _join(self, real: Images, labels: Tensor) -> None:
        if real.image_shape != self.images.image_shape or len(real) == 0:
            raise UserError(
                f"expected real images of shape {self.images.image_shape}, like the synthetic ones, got {len(real)} of "
                f"{real.image_shape}; resize those of distillation.real"
            )
        self.real = real
        self.labels = None if self.labels is None else torch.cat([self.labels, labels])

    def __len__(self) -> int:
        return len(self.images) + (0 if self.real is None else len(self.real))

    def draw(self, generator: torch.Generator, batch_size: int) -> Tensor:
        """Indices (batch,) of a batch's images; the real images are numbered after the synthetic ones."""
        if self.real is None:
            # With replacement: a batch follows from its generator alone, and a resumed run needs no position in an
            # epoch.
            return torch.randint(len(self.images), (batch_size,), generator=generator)
        num_real = round(self.real_share * batch_size)
        synthetic = torch.randint(len(self.images), (batch_size - num_real,), generator=generator)
        real = torch.randint(len(self.real), (num_real,), generator=generator) + len(self.images)
        # Shuffled: processes take parts of the batch, and mixing its mirror images, each of which should have both
        # kinds.
        return torch.cat([synthetic, real])[torch.randperm(batch_size, generator=generator)]

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images at each of the indices."""
        if self.real is None:
            yield from self.images.batches(indices)
            return
        # Synthetic images may come from workers that run ahead: each reader goes through the indices at its own pace.
        first, second, whole = itertools.tee(indices, 3)
        start = len(self.images)
        synthetic = self.images.batches(batch[batch < start] for batch in first)
        real = self.real.batches(batch[batch >= start] - start for batch in second)
        for batch, ours, theirs in zip(whole, synthetic, real, strict=True):
            # Shards hold 8 bits anyway, so images in float are rounded to 8 bits too.
            ours, theirs = (ours, theirs) if ours.dtype == theirs.dtype else (to_bytes(ours), to_bytes(theirs))
            images = ours.new_empty(len(batch), *ours.shape[1:])
            images[batch < start], images[batch >= start] = ours, theirs
            yield images


def _looked_up(images: Tensor | Images) -> Images:
    return TensorImages(images) if isinstance(images, Tensor) else images


def look_size(data: TrainingSet, at_most: int) -> int:
    """How many images a network is shown together when it only looks at them: fewer where they are large."""
    _, height, width = data.images.image_shape
    return max(1, min(at_most, at_most * LOOK_SIDE**2 // (height * width)))


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8; those that are uint8 stay."""
    return images if images.dtype == torch.uint8 else images.mul(255).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; those that are float stay."""
    return images.float().div(255) if images.dtype == torch.uint8 else images
