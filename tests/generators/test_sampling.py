"""Steps and sizes that a pipeline can't do are refused when it is loaded, not after the first images."""

from __future__ import annotations

import pytest

from prismkd.config import GeneratorConfig
from prismkd.errors import UserError
from prismkd.generators import TextToImage, load_generator
from prismkd.generators.sampling import check_sampling

from .tiny_pipelines import PAIRS, build


def test_one_step_of_the_embedded_generator_is_refused_at_the_start() -> None:
    with pytest.raises(UserError, match=r"expected a scheduler for 1 steps .*single step; choose more"):
        load_generator(GeneratorConfig(num_inference_steps=1, device="cpu"))


@pytest.mark.parametrize("name", PAIRS)
def test_one_step_is_refused_exactly_where_diffusers_fails(name: str) -> None:
    pipeline, scale = build(name)
    config = GeneratorConfig(num_inference_steps=1, guidance_scale=scale)
    if name.startswith("pixart-alpha"):
        with pytest.raises(UserError, match="single step"):
            check_sampling(pipeline, config)
        with pytest.raises(IndexError):
            TextToImage(pipeline, None, config).sample(["a bell"], [1])
    else:
        check_sampling(pipeline, config)
        assert TextToImage(pipeline, None, config).sample(["bell"], [1]).isfinite().all()


@pytest.mark.parametrize("name", PAIRS)
def test_more_steps_than_were_trained_are_refused(name: str) -> None:
    pipeline, scale = build(name)
    check_sampling(pipeline, GeneratorConfig(num_inference_steps=20, guidance_scale=scale))
    with pytest.raises(UserError, match="expected at most 1000 steps"):
        check_sampling(pipeline, GeneratorConfig(num_inference_steps=1001, guidance_scale=scale))


def test_a_size_that_the_decoder_cannot_make_is_refused() -> None:
    pipeline, scale = build("sd-DDIM")
    with pytest.raises(UserError, match=r"as a multiple of 2.*got 33; choose 32"):
        check_sampling(pipeline, GeneratorConfig(image_size=33, guidance_scale=scale))
