"""Augmented views of images: differentiable ones, which also make guidance gradients robust, and those of recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

GREY = 128  # what RandAugment's rotations and shifts bring in, as timm's do


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


def rand_augment(images: Tensor, magnitude: int, seeds: Sequence[int]) -> Tensor:
    """RandAugment (Cubuk et al. 2020): two operations of torchvision per image, drawn from the image's own seed.

    Args:
        images: uint8 (batch, 1 or 3 channels, height, width), on the CPU.
        magnitude: 0 to 30.
        seeds: (batch,).
    """
    from torchvision.transforms import v2

    transform = v2.RandAugment(num_ops=2, magnitude=magnitude, fill=GREY)
    views = []
    with torch.random.fork_rng(devices=[]):  # torchvision takes no generator
        for image, seed in zip(images, seeds, strict=True):
            torch.random.default_generator.manual_seed(seed)
            views.append(transform(image))
    return torch.stack(views)


def mix(views: Tensor, mixup: float, cutmix: float, seed: int) -> tuple[Tensor, Tensor]:
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019) with the mirrored batch, by timm; both: a coin decides.

    Args:
        views: (batch, channels, height, width), an even number; overwritten.
        mixup, cutmix: parameter of the beta distribution of shares; 0 is off.
        seed: of the share and the box, which all images of a batch have in common.

    Returns:
        The mixed views, and the mixing (batch, batch): row i holds the share of each image in view i.
    """
    from timm.data import Mixup

    count = len(views)
    mixer = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=count)
    with _seeded_numpy(seed):
        return mixer(views, torch.arange(count, device=views.device))


@contextmanager
def _seeded_numpy(seed: int) -> Iterator[None]:
    """timm draws from numpy's global generator."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
