"""The cache of text embeddings: the same images as without it, every text encoded once, and no more than the bound."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

import diffusers
import pytest
import torch

from prismkd.config import GeneratorConfig
from prismkd.generators.embeddings import MAX_PIXART_TOKENS, OUTPUTS, TextEmbeddings
from prismkd.generators.text_to_image import TextToImage
from prismkd.prompts.length import PIPELINE_TOKENS
from tests.generators.tiny_pipelines import PAIRS, build

PROMPTS = ["an icon of a red bell", "a cat", "a photo of a ship", "a cat"]
CASES = {type(build(name)[0]).__name__: name for name in PAIRS}
KNOWN = [name for name in CASES if name in OUTPUTS]


def generator(name: str, scale: float = 3.0) -> TextToImage:
    torch.manual_seed(0)
    pipeline = build(CASES[name])[0]
    pipeline.set_progress_bar_config(disable=True)
    return TextToImage(pipeline, None, GeneratorConfig(num_inference_steps=3, guidance_scale=scale, image_size=32))


def test_every_pipeline_with_a_text_encoder_is_known() -> None:
    assert set(CASES) - set(OUTPUTS) == {"DiTPipeline"}


@pytest.mark.parametrize("scale", [3.0, 1.0])
@pytest.mark.parametrize("name", [name for name in KNOWN if not name.startswith("PixArt")])
def test_images_are_those_of_the_pipelines_own_encoding(name: str, scale: float) -> None:
    found = generator(name, scale)
    found.precision = nullcontext  # type: ignore[method-assign]  # rounds less where texts are encoded before it
    cached = found.sample(PROMPTS, [0, 1, 2, 3])
    found.prompt_arguments = lambda prompts: {"prompt": prompts}  # type: ignore[method-assign]
    torch.testing.assert_close(cached, found.sample(PROMPTS, [0, 1, 2, 3]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", KNOWN)
def test_every_text_is_encoded_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, seen = generator(name), list[Any]()
    encode = type(found.pipeline).encode_prompt

    def counting(self: Any, prompt: Any, *rest: Any, **more: Any) -> Any:
        if more.get("prompt_embeds") is None:
            seen.append(prompt)
        return encode(self, prompt, *rest, **more)

    counting.__signature__ = __import__("inspect").signature(encode)  # type: ignore[attr-defined]
    monkeypatch.setattr(type(found.pipeline), "encode_prompt", counting)
    first = found.sample(PROMPTS, [0, 1, 2, 3])
    assert sorted(seen) == sorted(set(PROMPTS))
    torch.testing.assert_close(found.sample(PROMPTS, [0, 1, 2, 3]), first, atol=0, rtol=0)
    assert sorted(seen) == sorted(set(PROMPTS))


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_kept_is_bounded_and_has_no_graph(name: str) -> None:
    pipeline = build(CASES[name])[0]
    cache = TextEmbeddings(pipeline, 3.0, max_bytes=1)
    for number in range(3):
        given = cache.arguments([f"a cat {number}", "a bell"], torch.device("cpu"))
        assert all(not value.requires_grad for value in given.values() if value is not None)
        assert len(cache._kept) == 2
    assert TextEmbeddings(pipeline, 3.0).arguments(PROMPTS, torch.device("cpu"))["prompt_embeds"].shape[0] == 4


def test_the_lengths_that_prompts_are_counted_against_are_those_of_the_calls() -> None:
    for name, limit in PIPELINE_TOKENS.items():
        default = inspect.signature(getattr(diffusers, name).__call__).parameters["max_sequence_length"].default
        assert limit == (MAX_PIXART_TOKENS if name.startswith("PixArt") else default)
