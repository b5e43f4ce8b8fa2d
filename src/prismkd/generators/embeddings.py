"""Text embeddings, computed once per distinct prompt and kept within a bound."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 2**29  # of embeddings that are kept; a prompt's are 0.1 to 8 MB in the large models
OUTPUTS = {  # what a pipeline's encode_prompt returns, in the words of its call; "" is not passed on
    "StableDiffusionPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "LatentConsistencyModelPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "StableDiffusionXLPipeline": ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
                                  "negative_pooled_prompt_embeds"),
    "StableDiffusion3Pipeline": ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
                                 "negative_pooled_prompt_embeds"),
    "FluxPipeline": ("prompt_embeds", "pooled_prompt_embeds", ""),
    "SanaPipeline": ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
                     "negative_prompt_attention_mask"),
    "PixArtAlphaPipeline": ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
                            "negative_prompt_attention_mask"),
}  # fmt: skip
OUTPUTS["PixArtSigmaPipeline"] = OUTPUTS["PixArtAlphaPipeline"]
MAX_PIXART_TOKENS = 300

Encoded = dict[str, Tensor]  # by the name of the call's argument, each (1, ...) on the CPU


class TextEmbeddings:
    """The text encoders of a pipeline behind a cache.

    Attributes:
        pipeline: the diffusers pipeline.
        guidance_scale: above 1 the pipeline wants negative embeddings too.
        max_bytes: of embeddings that are kept; the ones used last stay.
    """

    def __init__(self, pipeline: Any, guidance_scale: float, max_bytes: int = MAX_BYTES) -> None:
        self.pipeline, self.max_bytes = pipeline, max_bytes
        self._name = type(pipeline).__name__
        self._accepted = inspect.signature(type(pipeline).__call__).parameters
        self._wants_negative = guidance_scale > 1 or self._name.startswith("PixArt")
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._negative: Encoded = {}

    @property
    def num_bytes(self) -> int:
        """Of all that is kept."""
        return sum(_num_bytes(encoded) for encoded in self._kept.values())

    def arguments(self, prompts: list[str], device: torch.device) -> dict[str, Any]:
        """What stands for ``prompts`` in the pipeline's call; the texts themselves where its kind isn't known."""
        if self._name not in OUTPUTS:
            return {"prompt": prompts}
        for text in prompts:
            if text not in self._kept:
                self._kept[text] = self._encode(text)
            self._kept.move_to_end(text)
        rows = [{**self._negative, **self._kept[text]} for text in prompts]
        excess = self.num_bytes - self.max_bytes
        # The least recently used first; those of this batch, moved to the end above, stay.
        while len(self._kept) > len(set(prompts)) and excess > 0:
            excess -= _num_bytes(self._kept.popitem(last=False)[1])
        given: dict[str, Any] = {name: _stack([row[name] for row in rows]).to(device) for name in rows[0]}
        if self._negative and "negative_prompt" in self._accepted:
            given["negative_prompt"] = None  # Sana's and PixArt's default is ""
        widths = {name: value.shape[1] for name, value in given.items() if name.endswith(("_mask", "prompt_embeds"))
                  and value is not None and not name.endswith("pooled_prompt_embeds")}  # fmt: skip
        return {name: _pad(value, max(widths.values())) if name in widths else value for name, value in given.items()}

    @torch.no_grad()
    def _encode(self, text: str) -> Encoded:
        """One text; with the first one also the negative embeddings, which are the same for all."""
        negative = self._wants_negative and not self._negative
        found = self._call(text, negative)
        self._negative |= {name: value for name, value in found.items() if name.startswith("negative")}
        return {name: value for name, value in found.items() if not name.startswith("negative")}

    def _call(self, text: str, negative: bool) -> Encoded:
        """The pipeline's own encoding, with the settings that its call would use."""
        takes = inspect.signature(self.pipeline.encode_prompt).parameters
        own = ("clip_skip", "max_sequence_length", "clean_caption", "complex_human_instruction")
        settings: dict[str, Any] = {name: self._accepted[name].default for name in own
                                    if name in takes and name in self._accepted}  # fmt: skip
        settings |= {name: None for name in ("prompt_2", "prompt_3") if name in takes}
        if "do_classifier_free_guidance" in takes:
            settings["do_classifier_free_guidance"] = negative
        if self._name.startswith("PixArt"):
            limit = min(self.pipeline.tokenizer.model_max_length, MAX_PIXART_TOKENS)
            settings |= {"clean_caption": False, "max_sequence_length": limit}
        device = getattr(self.pipeline, "_execution_device", self.pipeline.device)
        outputs = self.pipeline.encode_prompt(text, device=device, num_images_per_prompt=1, **settings)
        # On the CPU, where memory is cheap: a batch's few go to the device at each call.
        found = {name: value.cpu() for name, value in zip(OUTPUTS[self._name], outputs, strict=True)
                 if name in self._accepted and value is not None}  # fmt: skip
        return _without_padding(found) if self._name.startswith("PixArt") else found


def _without_padding(found: Encoded) -> Encoded:
    """Only the tokens that are there: a PixArt prompt is a tenth of its longest."""
    for prefix in ("", "negative_"):
        # Padding is put back up to the longest prompt of a batch; masked tokens have no effect on the others.
        mask = found.get(f"{prefix}prompt_attention_mask")
        if mask is not None:
            length = int(mask.sum())
            for name in (f"{prefix}prompt_embeds", f"{prefix}prompt_attention_mask"):
                found[name] = found[name][:, :length].clone()
    return found


def _stack(values: list[Tensor]) -> Tensor:
    """(1, tokens, ...) of each prompt to (batch, longest, ...), zeros behind the shorter ones."""
    width = max(value.shape[1] for value in values)
    return torch.cat([_pad(value, width) for value in values])


def _pad(x: Tensor, width: int) -> Tensor:
    """Zeros behind ``x`` (batch, tokens, ...) up to ``width`` tokens."""
    return torch.cat([x, x.new_zeros(len(x), width - x.shape[1], *x.shape[2:])], dim=1)


def _num_bytes(encoded: Encoded) -> int:
    return sum(value.numel() * value.element_size() for value in encoded.values())
