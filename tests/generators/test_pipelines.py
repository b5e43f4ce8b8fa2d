"""Guidance in every supported pipeline and scheduler, in miniature."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from prismkd.config import GeneratorConfig, GuidanceConfig
from prismkd.energy import free_energy
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration, EnergyGuidance
from prismkd.teachers import Classifier

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
    return TextToImage(pipeline, None, GeneratorConfig(num_inference_steps=8, guidance_scale=scale, image_size=SIZE))


def draw(name: str, config: GuidanceConfig | None) -> tuple[Tensor, EnergyGuidance | None]:
    images, kind = generator(name), None
    prompts = ["bell", "cat"] if name.startswith("dit") else ["a photo of a bell", "a photo of a cat"]
    if config is not None:
        kind = EnergyGuidance(TEACHER, images.decode, LABELS, Calibration([-99.0] * 2, -99.0, 0.0, [1, 1]), config)
    before = type(images.pipeline.scheduler)
    torch.manual_seed(0)  # DiT and some schedulers draw from the global generator
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
