"""Latent layouts: how the ``sample`` that a pipeline gives to its scheduler relates to the decoder's latents.

One small adapter per layout; most pipelines hand over the latents as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prismkd.guidance import X0Map

Edit = Callable[[Tensor, X0Map], Tensor | None]


@dataclass(frozen=True)
class Layout:
    """Latents as they are: (batch, channels, height, width)."""

    pipeline: Any

    def latents(self, x0: Tensor) -> Tensor:
        """The scheduler's x0 to scaled latents (batch, channels, height, width)."""
        return x0

    def wrap(self, edit: Edit) -> Edit:
        """``edit`` of one x0 per image as an edit of what the scheduler sees."""
        return edit


@dataclass(frozen=True)
class PackedLayout(Layout):
    """Flux: 2 x 2 patches as tokens (batch, tokens, 4 channels)."""

    height: int
    width: int

    def latents(self, x0: Tensor) -> Tensor:
        return self.pipeline._unpack_latents(x0, self.height, self.width, self.pipeline.vae_scale_factor)


@dataclass(frozen=True)
class DoubledLayout(Layout):
    """DiT: with classifier-free guidance the scheduler steps both halves of a doubled, equal batch."""

    def wrap(self, edit: Edit) -> Edit:
        def both_halves(x0: Tensor, mapping: X0Map) -> Tensor | None:
            delta = edit(x0[: len(x0) // 2], mapping)
            return None if delta is None else torch.cat([delta, delta])

        return both_halves


def layout_of(pipeline: Any, image_size: int, guidance_scale: float) -> Layout:
    """The layout of ``pipeline`` at ``image_size`` pixels (0: the pipeline's own)."""
    name = type(pipeline).__name__
    if hasattr(pipeline, "_unpack_latents"):
        size = image_size or pipeline.default_sample_size * pipeline.vae_scale_factor
        return PackedLayout(pipeline, size, size)
    if name == "DiTPipeline" and guidance_scale > 1:
        return DoubledLayout(pipeline)
    return Layout(pipeline)
