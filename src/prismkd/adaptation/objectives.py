"""What the adapter learns: losses of each image's prediction x0, beside the prediction x0_base without the adapter.

The paper's write-up says that an energy loss and a diversity loss optimize the generator's parameters, and not how.
Both objectives are our design.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prismkd.classifiers.views import random_views
from prismkd.guidance import rms
from prismkd.guidance.teacher_energy import TeacherEnergy

TINY = 1e-12  # in place of zero


def relative_distance(x0: Tensor, target: Tensor, base: Tensor) -> Tensor:
    """``|x0 - target|^2 / |x0_base|^2`` (batch,), which has no unit, whatever the scale of the latents."""
    # No root of the first: its gradient is infinite where nothing is to be changed
    return (x0 - target).flatten(1).square().mean(dim=1) / rms(base).flatten().square().clamp_min(TINY)


def guided_losses(x0: Tensor, base: Tensor, delta: Tensor | None) -> Tensor:
    """``|x0 - (x0_base + delta)|^2 / |x0_base|^2`` (batch,): EDA, amortized into the weights.

    It is lowest where the adapter predicts what guidance makes of the prediction, and holds what guidance leaves alone
    where it is: unlike a descent of the energy it has an end, and diversity isn't lost to it.

    Args:
        x0: (batch, ...) with the adapter.
        base: (batch, ...) without it.
        delta: (batch, ...) by which guidance moved ``base``, zero for what it left alone; None: for all.
    """
    return relative_distance(x0, base if delta is None else base + delta, base)


def energy_losses(
    x0: Tensor, base: Tensor, labels: Tensor, guided: Tensor, energy: TeacherEnergy,
    decode: Callable[[Tensor], Tensor], proximity_weight: float, seed: int,
) -> Tensor:  # fmt: skip
    """``E + w_keep |x0 - x0_base|^2 / |x0_base|^2`` (batch,): the energy itself, and what holds the images in place.

    ``E`` is the mean over the guided images of their energies in one random view, with its diversity term; the others
    have the second term alone.

    Args:
        x0, base: as of ``guided_losses``.
        labels: (batch,) the prompted classes.
        guided: (batch,) whose energy is to be lowered.
        energy: sum over images of what is to be lowered.
        decode: from x0 to images in [0, 1].
        proximity_weight: w_keep.
        seed: of the view.
    """
    kept = proximity_weight * relative_distance(x0, base, base)
    if not guided.any():
        return kept
    generator = torch.Generator(x0.device).manual_seed(seed)
    seen = random_views(decode(x0[guided]), shared=True, generator=generator)
    return kept + guided * energy(seen, labels[guided]) / guided.sum()
