"""The student's world: the size of its images, the views that it is trained on, and the geometry it is measured in.

In the embedded world, where the teacher takes images of any size, students see images in their own size. A teacher of
photographs has an input size. There the images, which a generator draws at 512 or 1024 pixels, are stored as squares a
little larger than that, each view is a random part of one, and the student gets its teacher's normalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Preprocessing
from prismkd.classifiers.preprocessing import to_config
from prismkd.classifiers.views import random_resized_crops, random_views
from prismkd.config import DistillationConfig

STORED_OVER_SEEN = 8 / 7  # sides: 256 pixels are kept for views of 224, so that small parts have some resolution


@dataclass(frozen=True)
class World:
    """What a student sees of an image.

    Attributes:
        side: of its square images in pixels; None: images stay as they are.
        augmentation: icons, photos or none.
        min_crop_scale: smallest share of an image's area in a view of ``photos``.
        teacher: the preprocessing of the teacher, or of the one with the largest input size of several; None where they
            take any size.
    """

    side: int | None
    augmentation: str
    min_crop_scale: float = 0.08
    teacher: Preprocessing | None = None

    @classmethod
    def of(cls, config: DistillationConfig, teacher: Classifier | None) -> World:
        """The world that a recipe and a teacher, or several, make."""
        found = None if teacher is None else _with_input_size(teacher)
        side = config.image_size or (None if found is None else _input_side(found))
        augmentation = config.augmentation
        if augmentation == "auto":
            augmentation = "icons" if side is None else "photos"
        return cls(side, augmentation, config.min_crop_scale, found)

    # --- images ------------------------------------------------------------------------------------------------------

    @property
    def stored_side(self) -> int | None:
        """Of the squares that views are made from; None: images stay as they are."""
        if self.side is None or self.augmentation != "photos":
            return self.side
        return round(self.side * STORED_OVER_SEEN)

    def image_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, height, width) of what the student sees of images (channels, height, width)."""
        return shape if self.side is None else (shape[0], self.side, self.side)

    def views(
        self, images: Tensor, generator: torch.Generator | None, rows: Tensor | None = None, batch_size: int = 0
    ) -> Tensor:
        """Augmented views of images (batch, channels, height, width) in [0, 1]; arguments as of ``random_views``."""
        images = self.stored(images)
        if self.augmentation == "none":
            return images
        if self.augmentation == "icons":
            return random_views(images, generator=generator, rows=rows, batch_size=batch_size)
        _, height, width = self.image_shape(tuple(images.shape[1:]))
        return random_resized_crops(
            images, (height, width), self.min_crop_scale, generator=generator, rows=rows, batch_size=batch_size
        )

    def plain(self, images: Tensor) -> Tensor:
        """What the student sees of images (batch, channels, height, width) in [0, 1] without augmentation."""
        if self.stored_side is None or self.side is None:
            return images
        return Preprocessing(images.shape[1], self.stored_side, (self.side, self.side), "bicubic")(images)

    def stored(self, images: Tensor) -> Tensor:
        """Images as they are stored; those that a caller gives in memory may have any size."""
        side = self.stored_side
        if side is None or images.shape[-2:] == (side, side):
            return images
        return Preprocessing(images.shape[1], side, (side, side), "bicubic")(images)

    # --- the student -------------------------------------------------------------------------------------------------

    def trained_form(self, network: nn.Module, num_classes: int, in_channels: int) -> nn.Module:
        """A new network as it is trained, of images in [0, 1]: behind the normalization of a teacher of photographs."""
        if self.teacher is None:
            return network
        mean, std = self._normalization(in_channels)
        config = {"num_classes": num_classes, "in_channels": in_channels, "mean": mean, "std": std}
        return Classifier(network, config)

    def student_config(self, in_channels: int, *, normalized: bool = True) -> dict[str, Any]:
        """The preprocessing for a student's ``config.json``: its teacher's, scaled to the student's own size.

        Args:
            in_channels: of the student's images.
            normalized: whether it was trained in ``trained_form``.
        """
        if self.side is None:
            return {"in_channels": in_channels}
        square = (self.side, self.side)
        given = self.teacher or Preprocessing(in_channels, self.side, square, "bicubic")
        factor = self.side / (_input_side(given) or self.side)
        mean, std = self._normalization(in_channels) if normalized else ((0.0,), (1.0,))
        scaled = Preprocessing(
            in_channels, _scaled(given.resize, factor, exact=None if given.crop else square),
            square if given.crop else None, given.interpolation, mean, std, given.floor_crop,
        )  # fmt: skip
        return to_config(scaled) | {"input_size": self.side}

    def _normalization(self, in_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the teacher; those of gray images are the means over its colors."""
        if self.teacher is None:
            return (0.0,), (1.0,)
        mean, std = self.teacher.mean, self.teacher.std
        if len(mean) in (1, in_channels) and len(std) in (1, in_channels):
            return mean, std
        return (sum(mean) / len(mean),), (sum(std) / len(std),)


def _with_input_size(teacher: Classifier) -> Preprocessing | None:
    """The preprocessing of a teacher, or of several's member with the largest input; None where all take any size."""
    found = [module.preprocess for module in teacher.modules() if isinstance(module, Classifier)]
    return max((each for each in found if _input_side(each)), key=lambda each: _input_side(each) or 0, default=None)


def _input_side(preprocessing: Preprocessing) -> int | None:
    """The longer side of what a network gets of a square image; None where it gets images of any size."""
    if preprocessing.size is not None:
        return max(preprocessing.size)
    return preprocessing.resize if isinstance(preprocessing.resize, int) else None


def _scaled(
    resize: int | tuple[int, int] | None, factor: float, exact: tuple[int, int] | None
) -> int | tuple[int, int] | None:
    """A teacher's ``resize`` for images of another size.

    Height and width become ``exact`` where nothing is cut off behind them.
    """
    if resize is None or isinstance(resize, int):
        return resize if resize is None else round(resize * factor)
    return exact or (round(resize[0] * factor), round(resize[1] * factor))
