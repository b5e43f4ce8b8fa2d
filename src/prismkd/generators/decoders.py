"""The decoder that guidance takes gradients through: the tiny one of the pipeline's family, or the pipeline's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismkd.errors import UserError

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

    source: str | Path | None = choice
    if choice == "none":
        return None
    if choice == "auto":
        own = folder / "tiny_vae" if folder is not None else None
        source = own if own is not None and own.is_dir() else None
        if source is None and folder is None:
            source = TINY_DECODERS.get(type(pipeline).__name__)
        if source is None:
            return None
    dtype = torch.bfloat16 if pipeline.dtype == torch.bfloat16 else torch.float32
    try:
        tiny = AutoencoderTiny.from_pretrained(source, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"expected an AutoencoderTiny at {source}, got: {str(error).splitlines()[0]}; set generator.tiny_decoder "
            "to its folder, or to none to guide through the full decoder"
        ) from None
    expected, got = pipeline.vae.config.latent_channels, tiny.config.latent_channels
    if expected != got:
        raise UserError(f"expected a tiny decoder of {expected} latent channels, got {got} in {source}; take another")
    return tiny.to(device).eval().requires_grad_(False)


def full_decoder(pipeline: Any) -> Any:
    """The pipeline's decoder for gradients: itself, or a float32 copy where it runs in float16, which overflows.

    Raises:
        UserError: the pipeline has none.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None or not hasattr(vae, "decode"):
        raise UserError(
            f"expected a latent diffusion pipeline with a vae, got {type(pipeline).__name__} without; guidance and "
            "distillation need a decoder: take another pipeline"
        )
    vae.requires_grad_(False)
    return copy.deepcopy(vae).float() if vae.dtype == torch.float16 else vae


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
        images = vae.decode(unscale(latents).to(vae.dtype)).sample
        return images.float().add(1).div(2).clamp(0, 1)

    return decode
