"""Latent layouts: how the ``sample`` that a pipeline gives to its scheduler relates to the decoder's latents.

One small adapter per layout; most pipelines hand over the latents as they are.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from prismkd.errors import UserError
from prismkd.guidance import X0Map

Edit = Callable[[Tensor, X0Map], Tensor | None]


class Layout:
    """Latents as they are: (batch, channels, height, width)."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def latents(self, x0: Tensor) -> Tensor:
        """The scheduler's x0 to scaled latents (batch, channels, height, width)."""
        return x0

    def wrap(self, edit: Edit, num_images: int) -> Edit:
        """``edit`` of one x0 per image as an edit of what the scheduler sees.

        Raises:
            UserError: while sampling, where the pipeline draws another number of images.
        """

        def edit_batch(x0: Tensor, mapping: X0Map) -> Tensor | None:
            _check_batch(len(x0), num_images)
            return edit(x0, mapping)

        return edit_batch

    @contextmanager
    def following_calls(self) -> Iterator[None]:
        """While active, whatever the layout has to know of each call of the pipeline is noted."""
        yield


class PackedLayout(Layout):
    """Flux: 2 x 2 patches as tokens (batch, tokens, 4 channels), which don't say how wide the image is."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        # Until a call says otherwise.
        self._height, self._width = side, side

    def latents(self, x0: Tensor) -> Tensor:
        side = 2 * self.pipeline.vae_scale_factor  # pixels of a token
        if x0.shape[1] != (self._height // side) * (self._width // side):
            raise UserError(
                f"expected the packed latents of an image of {self._height} x {self._width} pixels, got {x0.shape[1]} "
                "tokens; draw by a call of the pipeline itself, which says how large the image is"
            )
        return self.pipeline._unpack_latents(x0, self._height, self._width, self.pipeline.vae_scale_factor)

    @contextmanager
    def following_calls(self) -> Iterator[None]:
        """Notes height and width, which each call hands to ``prepare_latents``."""
        prepare, replaced = self.pipeline.prepare_latents, vars(self.pipeline).get("prepare_latents")
        signature = inspect.signature(prepare)

        @functools.wraps(prepare)
        def prepare_latents(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            self._height, self._width = given["height"], given["width"]
            return prepare(*args, **kwargs)

        # On the instance, where it hides the class's method; deleting it brings that back.
        self.pipeline.prepare_latents = prepare_latents
        try:
            yield
        finally:
            del self.pipeline.prepare_latents
            if replaced is not None:
                self.pipeline.prepare_latents = replaced


class DoubledLayout(Layout):
    """DiT: with classifier-free guidance the scheduler steps both halves of a doubled, equal batch."""

    def wrap(self, edit: Edit, num_images: int) -> Edit:
        def edit_halves(x0: Tensor, mapping: X0Map) -> Tensor | None:
            if len(x0) != 2 * num_images:
                _check_batch(len(x0), num_images)
                return edit(x0, mapping)
            # The halves are equal, so one is guided and the other gets the same: half of the price.
            delta = edit(x0[:num_images], mapping)
            return None if delta is None else torch.cat([delta, delta])

        return edit_halves


def layout_of(pipeline: Any) -> Layout:
    """The layout of ``pipeline``."""
    if hasattr(pipeline, "_unpack_latents"):
        return PackedLayout(pipeline)
    return DoubledLayout(pipeline) if type(pipeline).__name__ == "DiTPipeline" else Layout(pipeline)


def _check_batch(found: int, num_images: int) -> None:
    if found != num_images:
        raise UserError(
            f"expected a batch of {num_images} images, one per label, got one of {found} from the pipeline; give as "
            "many labels as it draws images together, prompts times num_images_per_prompt"
        )
