"""Augmentations of the training recipes: RandAugment, MixUp and CutMix, each from a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

GRAY = 128  # what RandAugment's rotations and shifts bring in, as timm's do


def rand_augment(images: Tensor, magnitude: int, seeds: Sequence[int]) -> Tensor:
    """RandAugment (Cubuk et al. 2020): two operations of torchvision per image, drawn from the image's own seed.

    Args:
        images: uint8 (batch, 1 or 3 channels, height, width), on the CPU.
        magnitude: 0 to 30.
        seeds: (batch,).
    """
    from torchvision.transforms import v2

    transform = v2.RandAugment(num_ops=2, magnitude=magnitude, fill=GRAY)
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
    # timm mixes labels; given the batch's own indices as labels, what it returns of them is the mixing itself.
    mixer = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=count)
    with _seeded_numpy(seed):
        return mixer(views, torch.arange(count, device=views.device))


@contextmanager
def _seeded_numpy(seed: int) -> Iterator[None]:
    """timm draws from numpy's global generator."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)  # it takes no more bits
    try:
        yield
    finally:
        np.random.set_state(state)
