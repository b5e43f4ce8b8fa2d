"""The generators of the shipped recipes as shapes, whose work is counted; ``shapes.py`` has those that are also timed.

The configurations are those of the public diffusers checkpoints. Parameter counts are checked in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
)
from torch import nn

from benchmarks.cost.shapes import SD_BETAS, SHAPES, Shape


@dataclass(frozen=True)
class HubModel:
    """A generator on the hub.

    Attributes:
        pipeline: the class that diffusers opens it with.
        shape: its architecture, at the image size of the recipe.
        image_size: pixels per side.
        measured_as: which of ``SHAPES`` was timed in its place; empty where none was.
    """

    pipeline: str
    shape: Shape
    image_size: int
    measured_as: str = ""


def _deep_compression_autoencoder() -> nn.Module:
    """DC-AE f32c32 (Chen et al. 2024), which Sana has: 32 times smaller per side, 32 channels."""
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    widths, scales = (128, 256, 512, 512, 1024, 1024), ((), (), (), (5,), (5,), (5,))
    return AutoencoderDC(
        latent_channels=32, encoder_block_types=blocks, decoder_block_types=blocks, encoder_block_out_channels=widths,
        decoder_block_out_channels=widths, encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3,) * 6, encoder_qkv_multiscales=scales, decoder_qkv_multiscales=scales,
        downsample_block_type="conv", upsample_block_type="interpolate", scaling_factor=0.41407,
    )  # fmt: skip


class _FluxSchedule(FlowMatchEulerDiscreteScheduler):
    """The noise levels that FluxPipeline hands to its scheduler: evenly from 1 to 1 / steps."""

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(sigmas=np.linspace(1.0, 1 / num_inference_steps, num_inference_steps))


SDXL_TURBO = replace(  # SDXL's network at half its side, without classifier-free guidance (Sauer et al. 2023)
    SHAPES["sdxl"], title="SDXL-Turbo at 512", latent_shape=(4, 64, 64), num_passes=1,
    new_scheduler=lambda: EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **SD_BETAS),
)  # fmt: skip
PIXART_SIGMA = Shape(  # PixArt-Sigma-XL-2-512-MS: 611 M parameters (Chen et al. 2024)
    "PixArt-Sigma at 512",
    (4, 64, 64),
    lambda: PixArtTransformer2DModel(sample_size=64, caption_channels=4096, use_additional_conditions=False),
    {"encoder_hidden_states": (300, 4096)},
    lambda: DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    scaling_factor=0.13025,
)
SANA = Shape(  # Sana_600M_512px: 592 M parameters (Xie et al. 2024)
    "Sana 0.6B at 512",
    (32, 16, 16),
    lambda: SanaTransformer2DModel(
        num_attention_heads=36, attention_head_dim=32, num_layers=28, num_cross_attention_heads=16,
        cross_attention_head_dim=72, cross_attention_dim=1152, caption_channels=2304, sample_size=16),
    {"encoder_hidden_states": (300, 2304)},
    lambda: DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    new_autoencoder=_deep_compression_autoencoder,
    has_tiny_decoder=False,
)  # fmt: skip
SD_35 = Shape(  # stable-diffusion-3.5-medium: 2.24 G parameters, and positions up to 384 x 384 (Esser et al. 2024)
    "SD 3.5 medium at 512",
    (16, 64, 64),
    lambda: SD3Transformer2DModel(
        sample_size=128, num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"),
    {"encoder_hidden_states": (77 + 256, 4096), "pooled_projections": (2048,)},
    lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    scaling_factor=1.5305,
)  # fmt: skip
FLUX_SCHNELL = Shape(  # FLUX.1-schnell: 11.9 G parameters, the defaults of diffusers (Black Forest Labs 2024)
    "FLUX.1-schnell at 512",
    (16, 64, 64),
    FluxTransformer2DModel,
    {"encoder_hidden_states": (512, 4096), "pooled_projections": (768,)},
    lambda: _FluxSchedule(shift=1.0),
    scaling_factor=0.3611,
    num_passes=1,
    is_packed=True,
)

HUB_MODELS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5":
        HubModel("StableDiffusionPipeline", SHAPES["sd-1.5"], 512, measured_as="sd-1.5"),
    "stabilityai/sdxl-turbo": HubModel("StableDiffusionXLPipeline", SDXL_TURBO, 512),
    "PixArt-alpha/PixArt-Sigma-XL-2-512-MS": HubModel("PixArtSigmaPipeline", PIXART_SIGMA, 512),
    "Efficient-Large-Model/Sana_600M_512px_diffusers": HubModel("SanaPipeline", SANA, 512),
    "stabilityai/stable-diffusion-3.5-medium": HubModel("StableDiffusion3Pipeline", SD_35, 512),
    "black-forest-labs/FLUX.1-schnell": HubModel("FluxPipeline", FLUX_SCHNELL, 512),
    "facebook/DiT-XL-2-256": HubModel("DiTPipeline", SHAPES["dit-xl"], 256, measured_as="dit-xl"),
}  # fmt: skip
