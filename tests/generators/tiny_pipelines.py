"""Every supported pipeline in miniature: stock diffusers and transformers classes with random weights, 32 pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DiTPipeline,
    DiTTransformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

SIZE = 32  # pixels; 16 latents per side, Sana 8
WORDS = "a an icon photo of solid red bell cat ship".split()
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
V = {"prediction_type": "v_prediction"}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "<bos>", "<eos>", *WORDS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>",
                                   eos_token="<eos>", model_max_length=16)  # fmt: skip


def clip(projection: bool = False) -> Any:
    config = CLIPTextConfig(vocab_size=32, hidden_size=32, intermediate_size=37, num_hidden_layers=2,
                            num_attention_heads=4, max_position_embeddings=16, projection_dim=32,
                            bos_token_id=2, eos_token_id=3, pad_token_id=0)  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5() -> Any:
    return T5EncoderModel(T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)).eval()


def vae(channels: int = 4, **settings: Any) -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
                         up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, norm_num_groups=4,
                         sample_size=SIZE, **settings).eval()  # fmt: skip


def unet(**settings: Any) -> UNet2DConditionModel:
    kinds = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    return UNet2DConditionModel(block_out_channels=(8, 16), layers_per_block=1, sample_size=16, norm_num_groups=4,
                                down_block_types=kinds[0], up_block_types=kinds[1],
                                **{"cross_attention_dim": 32, "attention_head_dim": 4, **settings}).eval()  # fmt: skip


def scheduler(name: str, **settings: Any) -> Any:
    if name.startswith("Flow"):
        return getattr(diffusers, name)(**settings)
    fixed = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if name in ("DDIMScheduler", "DDPMScheduler", "TCDScheduler", "LCMScheduler"):
        fixed |= {"clip_sample": False}
    if name == "PNDMScheduler":
        fixed |= {"skip_prk_steps": True}
    return getattr(diffusers, name)(**fixed, **settings)


def stable_diffusion(kind: Any) -> Any:
    return StableDiffusionPipeline(vae(), clip(), tokenizer(), unet(), kind, None, None, requires_safety_checker=False)


def lcm(kind: Any) -> Any:
    network = unet(time_cond_proj_dim=32)
    return LatentConsistencyModelPipeline(vae(), clip(), tokenizer(), network, kind, None, None,
                                          requires_safety_checker=False)  # fmt: skip


def sdxl(kind: Any) -> Any:
    network = unet(cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
                   projection_class_embeddings_input_dim=80, attention_head_dim=(2, 4),
                   transformer_layers_per_block=(1, 1), use_linear_projection=True)  # fmt: skip
    return StableDiffusionXLPipeline(vae(), clip(), clip(projection=True), tokenizer(), tokenizer(), network, kind,
                                     add_watermarker=False)  # fmt: skip


def sd3(kind: Any) -> Any:
    network = SD3Transformer2DModel(sample_size=16, patch_size=1, in_channels=8, num_layers=1, attention_head_dim=8,
                                    num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32,
                                    pooled_projection_dim=64, out_channels=8).eval()  # fmt: skip
    return StableDiffusion3Pipeline(network, kind, vae(8, shift_factor=0.0609, scaling_factor=1.5305), clip(True),
                                    tokenizer(), clip(True), tokenizer(), t5(), tokenizer())  # fmt: skip


def flux(kind: Any) -> Any:
    network = FluxTransformer2DModel(patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
                                     attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
                                     pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
                                     guidance_embeds=True)  # fmt: skip
    decoder = vae(4, shift_factor=0.1159, scaling_factor=0.3611)
    return FluxPipeline(kind, decoder, clip(), tokenizer(), t5(), tokenizer(), network.eval())


def pixart(pipeline: Any, kind: Any) -> Any:
    network = PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
                                       num_layers=1, cross_attention_dim=16, sample_size=16, patch_size=2,
                                       caption_channels=32, use_additional_conditions=False).eval()  # fmt: skip
    return pipeline(tokenizer(), t5(), vae(), network, kind)


def sana(kind: Any) -> Any:
    network = SanaTransformer2DModel(patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2,
                                     attention_head_dim=4, num_cross_attention_heads=2, cross_attention_head_dim=4,
                                     cross_attention_dim=8, caption_channels=8, sample_size=8).eval()  # fmt: skip
    decoder = AutoencoderDC(in_channels=3, latent_channels=4, attention_head_dim=2,
                            encoder_block_types=("ResBlock",) * 3, decoder_block_types=("ResBlock",) * 3,
                            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
                            encoder_layers_per_block=(1,) * 3, decoder_layers_per_block=(1,) * 3,
                            scaling_factor=0.41407).eval()  # fmt: skip
    text = Gemma2Model(Gemma2Config(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
                                    num_attention_heads=2, num_key_value_heads=1, head_dim=4)).eval()  # fmt: skip
    return SanaPipeline(tokenizer(), text, decoder, network, kind)


def dit(kind: Any) -> Any:
    network = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
                                    num_layers=1, sample_size=16, num_embeds_ada_norm=1000).eval()  # fmt: skip
    return DiTPipeline(network, vae(), kind, id2label={0: "bell", 1: "cat", 2: "ship"})


def _pairs() -> dict[str, tuple[Callable[[Any], Any], Callable[[], Any], float]]:
    """name -> (pipeline of a scheduler, scheduler, guidance scale)."""
    pairs: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], float]] = {}

    def add(name: str, build: Callable[[Any], Any], kind: str, scale: float = 3.0, **settings: Any) -> None:
        label = "-".join([name, kind.removesuffix("Scheduler"), *map(str, settings.values())])
        pairs[label] = (build, lambda: scheduler(kind, **settings), scale)

    for kind in ("DDIM", "DDPM", "PNDM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep",
                 "UniPCMultistep", "DEISMultistep", "LCM", "TCD"):  # fmt: skip
        add("sd", stable_diffusion, f"{kind}Scheduler")
    for kind in ("DDIM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
        add("sd", stable_diffusion, f"{kind}Scheduler", **V)
    add("lcm", lcm, "LCMScheduler")
    add("sdxl", sdxl, "EulerDiscreteScheduler")
    add("sdxl", sdxl, "DPMSolverMultistepScheduler")
    add("sdxl-turbo", sdxl, "EulerAncestralDiscreteScheduler", 0.0, timestep_spacing="trailing")
    add("sd3", sd3, "FlowMatchEulerDiscreteScheduler", shift=3.0)
    add("flux", flux, "FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True)
    add("pixart-alpha", lambda kind: pixart(PixArtAlphaPipeline, kind), "DPMSolverMultistepScheduler")
    add("pixart-sigma", lambda kind: pixart(PixArtSigmaPipeline, kind), "DPMSolverMultistepScheduler")
    add("sana", sana, "FlowMatchEulerDiscreteScheduler", shift=3.0)
    add("sana", sana, "DPMSolverMultistepScheduler", flow_shift=3.0, **FLOW)
    add("sana", sana, "UniPCMultistepScheduler", flow_shift=3.0, **FLOW)
    add("dit", dit, "DDIMScheduler")
    add("dit", dit, "DPMSolverMultistepScheduler")
    return pairs


PAIRS = _pairs()


def build(name: str) -> tuple[Any, float]:
    """A pipeline of the list, always with the same weights, and its guidance scale."""
    make, kind, scale = PAIRS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = make(kind())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, scale
