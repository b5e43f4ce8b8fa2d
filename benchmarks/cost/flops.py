"""FLOPs of guided sampling: each network counted once on the meta device, then added up by how often it runs.

Counted are matrix products, convolutions and attention (two per multiply-add), forward and backward. Text encoding,
normalization, views and resizing aren't: they have no such products to speak of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost.shapes import Networks
from prismkd.classifiers.views import random_views


@dataclass(frozen=True)
class Cost:
    """FLOPs of one image's forward pass, and of the backward pass to the input alone (weights are frozen)."""

    forward: int
    backward: int

    @property
    def both(self) -> int:
        return self.forward + self.backward


@dataclass(frozen=True)
class Pieces:
    """What sampling is made of, per image.

    Attributes:
        denoise: the denoiser with classifier-free guidance, so both halves.
        decoders: "tiny" and "full".
        view: the teacher on one augmented view of the decoded image.
        teacher: the teacher on the image itself, forward only.
    """

    denoise: Cost
    decoders: dict[str, Cost]
    view: Cost
    teacher: int

    def unguided(self, steps: int) -> int:
        """Denoise ``steps`` times and decode once, fully."""
        return steps * self.denoise.forward + self.decoders["full"].forward

    def gradient(self, decoder: str, views: int, share: float = 1.0) -> float:
        """The energy's gradient by x0: decode once, classify ``views`` views of ``share`` of the images, and back.

        The way back through the decoder is the whole batch's as soon as one of its images needs it.
        """
        decode = self.decoders[decoder]
        return (decode.both if share else decode.forward) + share * views * self.view.both

    def guided(self, gradient: str, decoder: str, steps: int, guided_steps: int, views: int, share: float) -> float:
        """FLOPs per image of guided sampling.

        Args:
            gradient: "none", "x0", or "denoiser..." for the gradient by x_t, which has no check in the published
                methods.
            decoder: "tiny" or "full", for the gradient; the image is always decoded fully.
            steps, guided_steps: of the schedule, and how many of them are guided.
            views: augmented views per gradient.
            share: of images times guided steps whose check asks for a gradient; 1 is the worst case.
        """
        if gradient == "none":
            return self.unguided(steps)
        if gradient == "x0":
            per_step = self.teacher + self.gradient(decoder, views, share)  # one look first: which images need it?
        else:
            per_step = self.denoise.backward + self.gradient(decoder, views)
        return self.unguided(steps) + guided_steps * per_step


def count_pieces(networks: Networks) -> Pieces:
    """Run each network once; ``networks`` are best on the meta device, where only shapes are computed."""
    with torch.no_grad():
        images = networks.decoders["full"](networks.noise)
    return Pieces(
        denoise=count_cost(lambda x: networks.predict(x, 500.0), networks.noise),
        decoders={name: count_cost(decode, networks.noise) for name, decode in networks.decoders.items()},
        view=count_cost(lambda x: networks.teacher(random_views(x, shared=True)), images),
        teacher=count_flops(lambda: networks.teacher(images)),
    )


def count_cost(function: Callable[[Tensor], Tensor], x: Tensor) -> Cost:
    """FLOPs of ``function(x)`` and of its gradient with respect to ``x``."""
    leaf = x.detach().clone().requires_grad_(True)
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        total = function(leaf).sum()
        forward = counter.get_total_flops()
        total.backward()
    return Cost(forward, counter.get_total_flops() - forward)


@torch.no_grad()
def count_flops(function: Callable[[], object]) -> int:
    """FLOPs of calling ``function``, by torch's counter.

    On the meta device fused attention falls apart into its matrix products and is counted; a CPU's fused kernel isn't.
    """
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()
