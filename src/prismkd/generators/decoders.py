"""The decoder that guidance takes gradients through: the tiny one of the pipeline's family, or the pipeline's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismkd.errors import UserError
from prismkd.foreign import Budget, check_folder, opening, quiet, stays_offline

# Distilled decoders of each family's latents (TAESD, Ollin Boer Bohan, MIT), not pinned to a commit.
TINY_DECODERS = {
    "StableDiffusionPipeline": "madebyollin/taesd",
    "LatentConsistencyModelPipeline": "madebyollin/taesd",
    "DiTPipeline": "madebyollin/taesd",
    "PixArtAlphaPipeline": "madebyollin/taesd",
    "PixArtSigmaPipeline": "madebyollin/taesdxl",
    "StableDiffusionXLPipeline": "madebyollin/taesdxl",
    "StableDiffusion3Pipeline": "madebyollin/taesd3",
    "FluxPipeline": "madebyollin/taef1",
}


def load_tiny_decoder(pipeline: Any, folder: Path | None, choice: str, device: torch.device) -> Any:
    """The tiny decoder in float32 (bfloat16 where the pipeline has that), or None where there is none.

    Args:
        pipeline: the loaded pipeline.
        folder: its folder, whose ``tiny_vae`` is taken first; None for one from the hub.
        choice: ``auto``, ``none``, or a folder or hub repository of an ``AutoencoderTiny``.
        device: where guidance computes; the pipeline itself may be offloaded.

    Raises:
        UserError: the named decoder can't be loaded, or decodes other latents.
    """
    from diffusers import AutoencoderTiny
    from diffusers.utils import logging

    source: str | Path | None = choice
    if choice == "none":
        return None
    if choice == "auto":
        own = folder / "tiny_vae" if folder is not None else None
        source = own if own is not None and own.is_dir() else None
        # Only for a pipeline that is itself from the hub: nothing is downloaded for one in a folder.
        if source is None and folder is None:
            source = TINY_DECODERS.get(type(pipeline).__name__)
    if source is None:
        return None
    what = f"an AutoencoderTiny at {source}"
    remedy = "give its folder (generator.tiny_decoder), or none to guide through the full decoder"
    local = Path(source).is_dir()
    if local:
        check_folder(Path(source))
    with opening(what, remedy):
        budget = Budget.of_folder(Path(source)) if local else None
    closed = local or stays_offline()
    with quiet(logging), opening(what, remedy, local=closed, budget=budget):
        tiny = AutoencoderTiny.from_pretrained(
            source, dtype=_dtype_beside(pipeline), use_safetensors=True, local_files_only=closed
        )
    # Two families of latents may have the same number of channels: this finds the gross mistakes only.
    check_latents(tiny, pipeline, str(source))
    return tiny.to(device).eval().requires_grad_(False)


def copied_decoder(decoder: Any, pipeline: Any, device: torch.device) -> Any:
    """A copy of a user's decoder, an ``AutoencoderTiny`` or another of the same latents, in the form for guidance.

    Raises:
        UserError: it decodes other latents.
    """
    check_latents(decoder, pipeline, type(decoder).__name__)
    return copy.deepcopy(decoder).to(device, _dtype_beside(pipeline)).eval().requires_grad_(False)


def check_latents(decoder: Any, pipeline: Any, name: str) -> None:
    """Raises UserError where ``decoder`` takes latents of another number of channels than ``pipeline`` makes."""
    expected, got = pipeline.vae.config.latent_channels, decoder.config.latent_channels
    if expected != got:
        raise UserError(f"expected a tiny decoder of {expected} latent channels, got {got} in {name}; take another")


def _dtype_beside(pipeline: Any) -> torch.dtype:
    """float16 overflows, so only bfloat16 is taken over from the pipeline."""
    return torch.bfloat16 if pipeline.dtype == torch.bfloat16 else torch.float32


def full_decoder(pipeline: Any) -> Any:
    """The pipeline's decoder for gradients: itself, or a float32 copy where it runs in float16, which overflows.

    Raises:
        UserError: the pipeline has none, or one whose weights are offloaded layer by layer, which can't be copied.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None or not hasattr(vae, "decode"):
        raise UserError(
            f"expected a latent diffusion pipeline with a vae, got {type(pipeline).__name__} without; guidance and "
            "distillation need a decoder: take another pipeline"
        )
    if vae.dtype != torch.float16:
        return vae
    weights = vae.state_dict()
    if any(tensor.is_meta for tensor in weights.values()):
        raise UserError(
            f"expected a vae whose weights can be copied to float32, got one in float16 of {type(pipeline).__name__} "
            "that is offloaded layer by layer; use bfloat16, or pass a tiny decoder"
        )
    copied = type(vae).from_config(vae.config)  # not a deep copy: the hooks of an offloaded part hold the other parts
    copied.load_state_dict(weights)
    return copied.to(vae.device).eval().requires_grad_(False)


def decode_with(vae: Any, *, tiny: bool) -> Callable[[Tensor], Tensor]:
    """A differentiable function of scaled latents to images (batch, channels, height, width) float32 in [0, 1]."""

    def unscale(latents: Tensor) -> Tensor:
        if tiny:  # AutoencoderTiny takes them scaled
            return latents
        config = vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            latents = latents * torch.tensor(std).to(latents).view(1, -1, 1, 1)
            return latents / config.scaling_factor + torch.tensor(mean).to(latents).view(1, -1, 1, 1)
        return latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)

    def decode(latents: Tensor) -> Tensor:
        # Decoders give [-1, 1]. What lies beyond is clamped and has no gradient, so guidance can't drive it further.
        images = vae.decode(unscale(latents).to(vae.dtype)).sample
        return images.float().add(1).div(2).clamp(0, 1)

    return decode
