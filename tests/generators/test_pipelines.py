"""Guidance in every supported pipeline and scheduler, in miniature."""

from dataclasses import replace

import pytest
import torch
from accelerate import cpu_offload_with_hook
from diffusers import DDPMScheduler, EulerDiscreteScheduler
from torch import Tensor, nn

from prismkd.classifiers import Classifier
from prismkd.config import GeneratorConfig, GuidanceConfig
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration, EnergyGuidance
from prismkd.guidance.energy import free_energy

from .tiny_pipelines import PAIRS, SIZE, build

WIDE = GuidanceConfig(log_snr_min=-3.0, log_snr_max=3.0, augment=False, num_views=1)
LABELS = torch.tensor([0, 1])


class Ramp(nn.Module):
    """Logits that grow with the brightness of the image's left and right half: low energy is bright."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return 20 * torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], dim=1)


TEACHER = Classifier(Ramp(), {"num_classes": 2, "in_channels": 3})


def generator(name: str) -> TextToImage:
    pipeline, scale = build(name)
    size = 0 if name.startswith("dit") else SIZE
    return TextToImage(pipeline, None, GeneratorConfig(num_inference_steps=8, guidance_scale=scale, image_size=size))


def draw(name: str, config: GuidanceConfig | None) -> tuple[Tensor, EnergyGuidance | None]:
    images, kind = generator(name), None
    prompts = ["bell", "cat"] if name.startswith("dit") else ["a photo of a bell", "a photo of a cat"]
    if config is not None:
        kind = EnergyGuidance(TEACHER, images.decode, LABELS, Calibration([-99.0] * 2, -99.0, 0.0, [1, 1]), config)
    before = type(images.pipeline.scheduler)
    drawn = images.sample(prompts, [3, 4], kind)
    assert type(images.pipeline.scheduler) is before
    return drawn, kind


@pytest.mark.parametrize("name", PAIRS)
def test_strength_zero_is_bit_identical_and_more_lowers_the_energy(name: str) -> None:
    plain, _ = draw(name, None)
    assert plain.shape == (2, 3, SIZE, SIZE)
    zero, _ = draw(name, replace(WIDE, strength=0.0))
    assert torch.equal(plain, zero)
    guided, edit = draw(name, replace(WIDE, strength=0.3))
    assert edit is not None and edit.num_band_steps >= 1
    assert (free_energy(TEACHER(guided)) < free_energy(TEACHER(plain))).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sd-DDIM", "sd3-FlowMatchEulerDiscrete-3.0"])
def test_half_precision_pipelines_are_guided_in_full_precision(name: str, dtype: torch.dtype) -> None:
    """Decoder and teacher stay out of float16, which overflows in SDXL's decoder."""
    images = generator(name)
    images.pipeline.to(dtype)
    images = TextToImage(images.pipeline, None, images.config)
    edit = EnergyGuidance(TEACHER, images.decode, LABELS, Calibration([-99.0] * 2, -99.0, 0.0, [1, 1]),
                          replace(WIDE, strength=0.3))  # fmt: skip
    plain, guided = images.sample(["a bell", "a cat"], [3, 4]), images.sample(["a bell", "a cat"], [3, 4], edit)
    assert guided.dtype == torch.float32 and guided.isfinite().all()
    assert free_energy(TEACHER(guided)).mean() < free_energy(TEACHER(plain)).mean()
    assert images._full_decoder.dtype != torch.float16


def test_offloaded_parts_and_a_compiled_denoiser_draw_the_same() -> None:
    """accelerate's hooks move each part before its forward pass; guidance decodes in between."""
    plain, _ = draw("sd-DDIM", replace(WIDE, strength=0.3))
    images = generator("sd-DDIM")
    hook = None
    for part in (images.pipeline.text_encoder, images.pipeline.unet, images.pipeline.vae):
        _, hook = cpu_offload_with_hook(part, execution_device="cpu", prev_module_hook=hook)
    images.pipeline.unet.compile(backend="eager")
    edit = EnergyGuidance(TEACHER, images.decode, LABELS, Calibration([-99.0] * 2, -99.0, 0.0, [1, 1]),
                          replace(WIDE, strength=0.3))  # fmt: skip
    offloaded = images.sample(["a photo of a bell", "a photo of a cat"], [3, 4], edit)
    assert torch.allclose(plain, offloaded, atol=0.02)


def test_guidance_that_never_acts_is_an_error_and_not_a_result() -> None:
    images = generator("sdxl-turbo-EulerAncestralDiscrete-trailing")
    images.config = replace(images.config, num_inference_steps=1)
    edit = EnergyGuidance(TEACHER, images.decode, LABELS, Calibration([-99.0] * 2, -99.0, 0.0, [1, 1]), WIDE)
    with pytest.raises(UserError, match="expected a denoising step with log"):
        images.sample(["a bell", "a cat"], [3, 4], edit)


@pytest.mark.parametrize("name", ["sd-DDIM", "sd-DPMSolverMultistep", "flux-FlowMatchEulerDiscrete-True", "dit-DDIM"])
def test_a_guided_image_is_the_same_in_any_batch(name: str) -> None:
    images = generator(name)
    prompts = ["cat", "bell", "ship"] if name.startswith("dit") else ["a cat", "a bell", "a ship"]
    seeds, labels, config = [5, 6, 7], torch.tensor([1, 0, 1]), replace(WIDE, strength=0.3, augment=True, num_views=2)

    def drawn(places: list[int]) -> Tensor:
        calibration = Calibration([-99.0] * 2, -99.0, 0.0, [1, 1])
        edit = EnergyGuidance(TEACHER, images.decode, labels[places], calibration, config)
        return images.sample([prompts[i] for i in places], [seeds[i] for i in places], edit)

    together, alone = drawn([0, 1, 2]), drawn([1])
    assert (together[1] - alone[0]).abs().mean() < 0.02  # bfloat16 sums in another order
    assert (together[1] - together[0]).abs().mean() > 0.05


@pytest.mark.parametrize("name", ["dit-DDPM", "sd-EulerAncestralDiscrete", "sd-TCD"])
def test_stochastic_schedulers_draw_from_the_images_own_seed(name: str) -> None:
    """DiT hands its scheduler no generator, so the noise would come from torch's global state."""
    images = generator("dit-DDIM" if name.startswith("dit") else name)
    if name.startswith("dit"):
        images.pipeline.scheduler = DDPMScheduler(clip_sample=False)
    prompts = ["bell", "cat"] if name.startswith("dit") else ["a bell", "a cat"]
    first = images.sample(prompts, [3, 4])
    torch.rand(7)
    second = images.sample(prompts, [3, 4])
    alone = images.sample(prompts[1:], [4])
    assert torch.equal(first, second)
    assert (first[1] - alone[0]).abs().mean() < 0.02


def test_images_that_a_safety_checker_blackened_are_not_a_number() -> None:
    """So they are drawn again with another seed, and never become training data."""
    images = generator("sd-DDIM")
    real = images.pipeline

    class Flagging(type(real)):  # type: ignore[misc]
        def __call__(self, **arguments):
            drawn = super().__call__(**arguments)
            drawn.nsfw_content_detected = [False, True]
            return drawn

    real.__class__ = Flagging
    found = images.sample(["a bell", "a cat"], [3, 4])
    assert found[0].isfinite().all() and found[1].isnan().all()


def test_settings_that_a_pipeline_refuses_are_one_clear_error() -> None:
    images = generator("sd-DDIM")
    images.config = replace(images.config, image_size=33)
    with pytest.raises(UserError, match="expected settings that StableDiffusionPipeline takes"):
        images.sample(["a bell"], [0])


def test_dit_is_not_given_what_it_gets_wrong() -> None:
    pipeline, _ = build("dit-DDIM")
    with pytest.raises(UserError, match=r"generator\.image_size = 0"):
        TextToImage(pipeline, None, GeneratorConfig(image_size=64))
    pipeline.scheduler = EulerDiscreteScheduler()
    with pytest.raises(UserError, match="EulerDiscreteScheduler"):
        TextToImage(pipeline, None, GeneratorConfig())


@pytest.mark.parametrize("name", sorted({name.split("-")[0]: name for name in PAIRS}.values()))
def test_texts_have_features_that_tell_them_apart(name: str) -> None:
    features = generator(name).text_features(["a bell", "a cat", "a bell"])
    if name.startswith("dit"):
        assert features is None
        return
    assert features is not None and features.shape[0] == 3 and features.isfinite().all()
    assert torch.equal(features[0], features[2]) and not torch.allclose(features[0], features[1])
