"""A diffusers pipeline as: prompts and seeds in, images out, with an optional edit of every x0 prediction."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismkd.assets import asset
from prismkd.config import GeneratorConfig
from prismkd.errors import UserError
from prismkd.guidance import EnergyGuidance, edit_x0


class TextToImage:
    """A loaded pipeline with its decoders.

    Attributes:
        pipeline: the diffusers pipeline.
        tiny_decoder: the small decoder that guidance goes through, or None: then the full one serves.
    """

    def __init__(self, pipeline: Any, tiny_decoder: Any, config: GeneratorConfig) -> None:
        self.pipeline = pipeline
        self.tiny_decoder = tiny_decoder
        self.config = config
        self._accepted = set(inspect.signature(type(pipeline).__call__).parameters)
        self._embeddings: dict[str, tuple[Tensor, Tensor]] = {}

    def sample(self, prompts: list[str], seeds: list[int], guidance: EnergyGuidance | None = None) -> Tensor:
        """Draw one image per prompt and seed; an image depends on its own prompt and seed only.

        Returns:
            Images (batch, channels, height, width) float32 in [0, 1].
        """
        arguments = {
            "num_inference_steps": self.config.num_inference_steps,
            "guidance_scale": self.config.guidance_scale,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "output_type": "pt",
            **({"use_resolution_binning": False} if "use_resolution_binning" in self._accepted else {}),
            **self._prompt_arguments(prompts),
        }
        with edit_x0(self.pipeline.scheduler, guidance) if guidance else nullcontext(), fast_matmul():
            images = self.pipeline(**arguments).images
        return images.float().clamp(0, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents to images in [0, 1], differentiable, through the tiny decoder where there is one."""
        if self.tiny_decoder is not None:
            return self.tiny_decoder.decode(latents).sample.add(1).div(2).clamp(0, 1)
        vae = self.pipeline.vae
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return vae.decode(latents / vae.config.scaling_factor + shift).sample.add(1).div(2).clamp(0, 1)

    def _prompt_arguments(self, prompts: list[str]) -> dict[str, Any]:
        """Prompts for the pipeline's call; where its text encoder's output can be passed, each text is encoded once."""
        if "prompt_attention_mask" not in self._accepted:
            return {"prompt": prompts}
        for text in {*prompts, ""} - self._embeddings.keys():
            self._embeddings[text] = self._encode(text)
        features, mask = self._stack(prompts)
        negative_features, negative_mask = self._stack([""] * len(prompts))
        width = max(features.shape[1], negative_features.shape[1])
        return {
            "prompt_embeds": _pad(features, width),
            "prompt_attention_mask": _pad(mask, width),
            "negative_prompt": None,
            "negative_prompt_embeds": _pad(negative_features, width),
            "negative_prompt_attention_mask": _pad(negative_mask, width),
        }

    def _encode(self, text: str) -> tuple[Tensor, Tensor]:
        limit = min(self.pipeline.tokenizer.model_max_length, 300)
        features, mask, *_ = self.pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, clean_caption=False, max_sequence_length=limit
        )
        length = int(mask.sum())
        return features[0, :length], mask[0, :length]

    def _stack(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        pairs = [self._embeddings[prompt] for prompt in prompts]
        pad = torch.nn.utils.rnn.pad_sequence
        return pad([f for f, _ in pairs], batch_first=True), pad([m for _, m in pairs], batch_first=True)


def _pad(x: Tensor, width: int) -> Tensor:
    """Zeros behind ``x`` (batch, tokens, ...) up to ``width`` tokens."""
    return torch.cat([x, x.new_zeros(len(x), width - x.shape[1], *x.shape[2:])], dim=1)


def fast_matmul() -> torch.autocast:
    """bfloat16 matrix products where the CPU computes them natively (3 to 5 times as fast there, slower elsewhere)."""
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("arm_bf16")
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(native))


def _use_plain_attention_for_few_tokens(pipeline: Any) -> None:
    """On CPUs the fused attention kernel is several times slower than two matrix products for tens of tokens."""
    from diffusers.models.attention_processor import AttnProcessor

    transformer: Any = getattr(pipeline, "transformer", None)
    if pipeline.device.type != "cpu" or not hasattr(transformer, "set_attn_processor"):
        return
    tokens = (transformer.config.sample_size // transformer.config.patch_size) ** 2
    if tokens <= 64:
        transformer.set_attn_processor(AttnProcessor())


def generator_folder(config: GeneratorConfig) -> Path:
    """The folder of the embedded generator or of the user's.

    Raises:
        UserError: there is no pipeline in the folder.
    """
    folder = asset("generator") if config.source == "pictograms" else Path(config.source)
    if not (folder / "model_index.json").is_file():
        raise UserError(f"expected a diffusers pipeline folder with model_index.json, got {folder}; check the path")
    return folder


def load_generator(config: GeneratorConfig) -> TextToImage:
    """Load the pipeline from its folder; never downloads, never runs the folder's code."""
    import transformers
    from diffusers import AutoencoderTiny, DiffusionPipeline
    from diffusers.utils import logging

    transformers.utils.logging.disable_progress_bar()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # else every load warns that the text encoder isn't the class's usual one
    folder = generator_folder(config)
    pipeline = DiffusionPipeline.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    _use_plain_attention_for_few_tokens(pipeline)
    tiny = None
    if (folder / "tiny_vae").is_dir():
        tiny = AutoencoderTiny.from_pretrained(folder / "tiny_vae", dtype=torch.float32).eval().requires_grad_(False)
    pipeline.vae.requires_grad_(False)
    return TextToImage(pipeline, tiny, config)
