"""Well-known generators as shapes: their architectures with random weights, enough to count and time their work.

The configurations are those of the public diffusers checkpoints (``unet/config.json`` and so on); what equals
diffusers' defaults isn't repeated. Parameter counts are checked in the tests.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiTTransformer2DModel,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.utils import logging
from torch import Tensor, nn

from benchmarks.cost.through_denoiser import NoiseLevel, encode_prompts, pixart_predictor
from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import new_network
from prismkd.generators import TextToImage
from prismkd.generators.decoders import decode_with


@dataclass(frozen=True)
class Shape:
    """A generator's architecture.

    Attributes:
        title: name and image size.
        latent_shape: (channels, height, width) of one image's latents.
        new_denoiser: builds the network.
        conditions: arguments of the network beside latents and timestep, as shapes per image; class labels are ().
        new_scheduler: builds the scheduler that the checkpoint is used with.
        scaling_factor: of the autoencoder's latents.
        decoder_widths: of the autoencoder; Stable Diffusion's and DiT's have the same.
        new_autoencoder: builds another kind of autoencoder than Stable Diffusion's.
        has_tiny_decoder: whether there is one for its latents; else guidance goes through the full one.
        num_passes: of the denoiser per step; 1 without classifier-free guidance.
        is_packed: whether the denoiser takes 2 x 2 patches of the latents as tokens, with their positions, as Flux's.
    """

    title: str
    latent_shape: tuple[int, int, int]
    new_denoiser: Callable[[], nn.Module]
    conditions: dict[str, tuple[int, ...]]
    new_scheduler: Callable[[], Any]
    scaling_factor: float = 0.18215
    decoder_widths: tuple[int, ...] = (128, 256, 512, 512)
    new_autoencoder: Callable[[], nn.Module] | None = None
    has_tiny_decoder: bool = True
    num_passes: int = 2
    is_packed: bool = False


CFG_SCALE = 3.0  # any but 1: the work is that of two passes
SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SDXL_BLOCKS = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),  # diffusers' name for the number of heads
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

SHAPES = {
    "sd-1.5": Shape(  # stable-diffusion-v1-5: 859.5 M parameters (Rombach et al. 2022)
        "SD 1.5 at 512",
        (4, 64, 64),
        lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        {"encoder_hidden_states": (77, 768)},
        lambda: DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **SD_BETAS),
    ),
    "sdxl": Shape(  # stable-diffusion-xl-base-1.0: 2567 M parameters (Podell et al. 2023)
        "SDXL at 1024",
        (4, 128, 128),
        lambda: UNet2DConditionModel(
            sample_size=128, cross_attention_dim=2048, use_linear_projection=True, **SDXL_BLOCKS
        ),
        {"encoder_hidden_states": (77, 2048), "text_embeds": (1280,), "time_ids": (6,)},
        lambda: EulerDiscreteScheduler(timestep_spacing="leading", **SD_BETAS),
        scaling_factor=0.13025,
    ),
    "dit-xl": Shape(  # DiT-XL-2-256: 675 M parameters (Peebles and Xie 2023); learned sigma, so 8 output channels
        "DiT-XL/2 at 256",
        (4, 32, 32),
        lambda: DiTTransformer2DModel(out_channels=8),
        {"class_labels": ()},
        lambda: DDIMScheduler(clip_sample=False, beta_schedule="linear"),
    ),
}


@dataclass(frozen=True)
class Networks:
    """What takes part in drawing one image, on one device.

    Attributes:
        noise: (1, channels, height, width) where sampling starts.
        predict: x_t like ``noise`` and timestep to the network's output, with classifier-free guidance.
        decoders: "tiny" and "full", latents to images in [0, 1].
        teacher: classifier of those images.
        denoiser: the network inside ``predict``, for those who compile it or change its memory format.
    """

    noise: Tensor
    predict: Callable[[Tensor, float], Tensor]
    decoders: dict[str, Callable[[Tensor], Tensor]]
    teacher: Classifier
    denoiser: nn.Module | None = None


def shape_networks(
    shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32, teacher: Classifier | None = None
) -> Networks:
    """Build a shape with random weights (none on the meta device); the teacher is a ResNet-50 at 224 in float32.

    ``predict`` takes any number of images, all under the same two conditions.
    """
    logging.set_verbosity_error()  # else every cast warns
    with device:
        denoiser = shape.new_denoiser().to(dtype).eval().requires_grad_(False)
        full = (shape.new_autoencoder or partial(_autoencoder, shape))().to(dtype).eval().requires_grad_(False)
        tiny = AutoencoderTiny(latent_channels=shape.latent_shape[0])  # else TAESD's architecture is the default
        tiny = tiny.to(dtype).eval().requires_grad_(False)
        noise = torch.randn(1, *shape.latent_shape)
        conditions = {
            name: _condition(name, (shape.num_passes, *size), dtype) for name, size in shape.conditions.items()
        }

    def predict(x: Tensor, timestep: float) -> Tensor:
        copies = torch.cat([x] * shape.num_passes).to(dtype)
        times = torch.full((len(copies),), int(timestep), device=x.device)
        given = {name: value.repeat_interleave(len(x), dim=0) for name, value in conditions.items()}
        added = {name: given.pop(name) for name in ("text_embeds", "time_ids") if name in given}
        arguments = {**given, **({"added_cond_kwargs": added} if added else {})}
        if shape.is_packed:
            copies = _packed(copies)
            arguments |= _positions(copies, given["encoder_hidden_states"])
        output = denoiser(copies, timestep=times, return_dict=False, **arguments)[0].float()
        output = _unpacked(output, x) if shape.is_packed else output[:, : x.shape[1]]  # a learned sigma is behind
        if shape.num_passes == 1:
            return output
        without, conditional = output.chunk(2)
        return without + CFG_SCALE * (conditional - without)

    decoders = {"full": decode_with(full, tiny=False)}
    decoders["tiny"] = decode_with(tiny, tiny=True) if shape.has_tiny_decoder else decoders["full"]
    return Networks(noise, predict, decoders, teacher or imagenet_teacher(device), denoiser)


def _autoencoder(shape: Shape) -> nn.Module:
    """Stable Diffusion's, which has as many channels of latents as the shape."""
    depth = len(shape.decoder_widths)
    return AutoencoderKL(
        block_out_channels=shape.decoder_widths, down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth, layers_per_block=2, latent_channels=shape.latent_shape[0],
        scaling_factor=shape.scaling_factor,
    )  # fmt: skip


def _packed(latents: Tensor) -> Tensor:
    """Latents (batch, channels, height, width) to tokens (batch, height width / 4, 4 channels)."""
    return nn.functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def _unpacked(tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens back to latents, of the height and width of ``like``."""
    height, width = like.shape[2] // 2, like.shape[3] // 2
    return nn.functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height, width)), 2)


def _positions(tokens: Tensor, texts: Tensor) -> dict[str, Tensor]:
    """Positions of tokens and texts in Flux's form; which they are doesn't change the work."""
    return {name: torch.zeros(value.shape[1], 3, device=tokens.device)
            for name, value in {"img_ids": tokens, "txt_ids": texts}.items()}  # fmt: skip


def _condition(name: str, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A value for one of the network's arguments: what it is doesn't change the work."""
    return torch.zeros(size, dtype=torch.long) if name == "class_labels" else torch.randn(size, dtype=dtype)


def imagenet_teacher(device: torch.device) -> Classifier:
    """A ResNet-50 with random weights for images of 224 pixels (timm's architecture)."""
    config = {"num_classes": 1000, "in_channels": 3, "input_size": 224}
    with device:
        return Classifier(new_network("resnet50", 1000, 3), config).eval().requires_grad_(False)


def embedded_networks(generator: TextToImage, teacher: Classifier, prompts: list[str]) -> Networks:
    """A loaded PixArt generator and its teacher on the meta device, to count the work of one of ``prompts``' images."""
    pipeline, device = generator.pipeline, torch.device("meta")
    features, mask = encode_prompts(generator, prompts)
    transformer, full, tiny, meta_teacher = (
        copy.deepcopy(network).to(device).requires_grad_(False)
        for network in (pipeline.transformer, pipeline.vae, generator.tiny_decoder or pipeline.vae, teacher)
    )
    pair = [0, len(prompts)]  # the features of no prompt, and of the first
    predict = pixart_predictor(transformer, features[pair].to(device), mask[pair].to(device), CFG_SCALE)
    config = pipeline.transformer.config
    noise = torch.empty(1, config.in_channels, config.sample_size, config.sample_size, device=device)
    return Networks(
        noise,
        lambda x, timestep: predict(x, NoiseLevel(0.0, 1.0, timestep)),
        {"tiny": decode_with(tiny, tiny=generator.tiny_decoder is not None), "full": decode_with(full, tiny=False)},
        meta_teacher,
    )
