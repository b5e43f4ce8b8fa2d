"""Differentiable augmented views of images: what guidance and students show to the teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CROP_TRIES, CROP_RATIOS = 10, (3 / 4, 4 / 3)  # of a random resized crop, as torchvision and timm have them


def random_views(
    images: Tensor,
    *,
    min_scale: float = 0.8,
    max_scale: float = 1.25,
    max_shift: float = 0.12,
    max_rotation: float = 0.2,
    contrast: float = 0.2,
    noise: float = 0.02,
    shared: bool = False,
    generator: torch.Generator | None = None,
    rows: Tensor | None = None,
    batch_size: int = 0,
) -> Tensor:
    """Zoom, shift, rotate, flip, change the contrast of and add noise to each image on its own.

    Args:
        images: (batch, channels, height, width) in [0, 1].
        min_scale, max_scale: range of the drawing's size.
        max_shift: largest shift, in image sides.
        max_rotation: largest rotation, in radians.
        contrast: the contrast factor lies in [1 - contrast, 1 + contrast].
        noise: standard deviation of additive noise.
        shared: draw one view for the whole batch, so that no image's view depends on its place in it.
        generator: on the CPU, or on the images' device; None: torch's global one.
        rows: places of the images (batch,) in a batch of ``batch_size`` that several processes share: each image gets
            the view that it would get in the whole batch.

    Returns:
        Views of the same shape, in [0, 1]; differentiable with respect to ``images``.
    """
    draws = _Draws(images, shared, generator, rows, batch_size)
    # Which view a seed gives is decided by the order of these draws.
    zoom = 1.0 / draws.uniform(min_scale, max_scale)
    angle = draws.uniform(-max_rotation, max_rotation)
    flip = torch.where(draws.uniform(0, 1) < 0.5, -1.0, 1.0)
    farthest = 2 * max_shift  # in coordinates from -1 to 1, where a side is 2 long
    shift = torch.stack([draws.uniform(-farthest, farthest), draws.uniform(-farthest, farthest)], dim=1)
    views = _warped(images, zoom, angle, flip, shift)
    views = _with_contrast(views, draws.uniform(1 - contrast, 1 + contrast))
    # What is fainter than this noise can't be what the teacher goes by.
    return (views + noise * draws.normal()).clamp(0, 1)


def random_resized_crops(
    images: Tensor,
    size: tuple[int, int],
    min_scale: float,
    *,
    generator: torch.Generator | None = None,
    rows: Tensor | None = None,
    batch_size: int = 0,
) -> Tensor:
    """A random part of each image, resized, and flipped in half of the cases (Szegedy et al. 2015).

    The part's share of the area and its aspect ratio are distributed as those of torchvision's ``RandomResizedCrop``.
    Pixels are interpolated bilinearly between the nearest four: images should not be much larger than ``size``.

    Args:
        images: (batch, channels, height, width) in [0, 1].
        size: height and width of the views.
        min_scale: smallest share of the area; the largest is 1.
        generator, rows, batch_size: as of ``random_views``.

    Returns:
        Views (batch, channels, *size), in [0, 1].
    """
    draws = _Draws(images, False, generator, rows, batch_size)
    width, height = _crop_sides(draws, images.shape[-1] / images.shape[-2], min_scale)
    flip = torch.where(draws.uniform(0, 1) < 0.5, -1.0, 1.0)
    # Anywhere in the image: in coordinates from -1 to 1 the center of a part of width w lies within 1 - w.
    center = torch.stack([(1 - width) * draws.uniform(-1, 1), (1 - height) * draws.uniform(-1, 1)], dim=1)
    theta = torch.zeros(len(images), 2, 3, device=images.device, dtype=images.dtype)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = flip * width, height, center
    grid = F.affine_grid(theta, [*images.shape[:2], *size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _crop_sides(draws: _Draws, aspect: float, min_scale: float) -> tuple[Tensor, Tensor]:
    """Widths and heights (batch,) of parts, as shares of the image's: the first of ten tries that fits, else all of it.

    With area a, and ratio r of width to height over that of the image, the sides are sqrt(a r) and sqrt(a / r).
    """
    tries = draws.uniforms(2 * CROP_TRIES).view(2, CROP_TRIES, -1)
    low, high = (math.log(ratio) for ratio in CROP_RATIOS)
    area, ratio = min_scale + (1 - min_scale) * tries[0], (low + (high - low) * tries[1]).exp() / aspect
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()])  # (2, tries, batch)
    fits = (sides <= 1).all(0)
    first = fits.int().argmax(0).expand(2, 1, -1)  # the first of the largest
    width, height = sides.gather(1, first)[:, 0].where(fits.any(0), 1.0)
    return width, height


@dataclass(frozen=True)
class _Draws:
    """Random numbers for the images of a batch. They are drawn for the whole batch, of which each image takes its own.

    Attributes:
        images, shared, generator, rows, batch_size: of ``random_views``.
    """

    images: Tensor
    shared: bool
    generator: torch.Generator | None
    rows: Tensor | None
    batch_size: int

    @property
    def _count(self) -> int:
        return 1 if self.shared else len(self.images) if self.rows is None else self.batch_size

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.generator is None else self.generator.device

    def uniform(self, low: float, high: float) -> Tensor:
        """(batch,) from [low, high)."""
        values = self._of_images(torch.rand(self._count, generator=self.generator, device=self._device))
        return (low + (high - low) * values).expand(len(self.images))

    def uniforms(self, num: int) -> Tensor:
        """(num, batch) from [0, 1); at once, as each call costs an accelerator as much as many numbers."""
        return self._of_images(torch.rand(self._count, num, generator=self.generator, device=self._device)).T

    def normal(self) -> Tensor:
        """(batch or 1, channels, height, width) from N(0, 1)."""
        shape = self.images.shape[1:]
        return self._of_images(torch.randn(self._count, *shape, generator=self.generator, device=self._device))

    def _of_images(self, values: Tensor) -> Tensor:
        own = values if self.rows is None or self.shared else values[self.rows.to(self._device)]
        return own.to(self.images)


def _warped(images: Tensor, zoom: Tensor, angle: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
    """Images seen through an affine map each; all (batch,), and ``shift`` (batch, 2).

    The map takes a view's coordinates in [-1, 1]^2 to the image's, ``x' = flip zoom R(angle) x + shift``.
    """
    theta = torch.zeros(len(images), 2, 3, device=images.device, dtype=images.dtype)
    theta[:, 0, 0], theta[:, 0, 1] = flip * zoom * angle.cos(), -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = flip * zoom * angle.sin(), zoom * angle.cos()
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # The border continues beyond the edge: black bars would be something that no training image has.
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _with_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Each image's distance from its own mean, times its ``factor`` (batch,)."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + factor.view(-1, 1, 1, 1) * (images - mean)
