"""Differentiable augmented views of images: what guidance and students show to the teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
        generator: on the CPU, or on the images' device.
        rows: places of the images (batch,) in a batch of ``batch_size`` that several processes share: each image gets
            the view that it would get in the whole batch.

    Returns:
        Views of the same shape; differentiable with respect to ``images``.
    """
    drawn = 1 if shared else len(images) if rows is None else batch_size
    place = torch.device("cpu") if generator is None else generator.device

    def own(values: Tensor) -> Tensor:
        return (values if rows is None or shared else values[rows.to(place)]).to(images)

    def uniform(low: float, high: float) -> Tensor:
        values = own(torch.rand(drawn, generator=generator, device=place))
        return (low + (high - low) * values).expand(len(images))

    zoom = 1.0 / uniform(min_scale, max_scale)
    angle = uniform(-max_rotation, max_rotation)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(images), 2, 3, device=images.device, dtype=images.dtype)
    theta[:, 0, 0], theta[:, 0, 1] = flip * zoom * angle.cos(), -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = flip * zoom * angle.sin(), zoom * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-2 * max_shift, 2 * max_shift), uniform(-2 * max_shift, 2 * max_shift)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    middle = views.mean(dim=(1, 2, 3), keepdim=True)
    factor = uniform(1 - contrast, 1 + contrast).view(-1, 1, 1, 1)
    views = middle + factor * (views - middle)
    eps = own(torch.randn(drawn, *images.shape[1:], generator=generator, device=place))
    return (views + noise * eps).clamp(0, 1)
