"""A pipeline in miniature, and a linear teacher, as a synthesizer whose generator can be adapted."""

from __future__ import annotations

import torch
from torch import nn

from prismkd.classes import ClassName
from prismkd.classifiers import Classifier
from prismkd.config import GeneratorConfig, GuidanceConfig
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration
from prismkd.prompts import PromptPlan, plain_plan
from prismkd.synthesis.synthesizer import Synthesizer
from tests.generators.tiny_pipelines import SIZE, build

GUIDANCE = GuidanceConfig(strength=0.3, log_snr_min=-3.0, log_snr_max=1.0, num_views=1, energy="joint")


def linear_teacher() -> Classifier:
    """Two classes by the mean colors of sixteen parts of an image."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 2))
    with torch.no_grad():
        network[2].weight.copy_(torch.randn(2, 48, generator=torch.Generator().manual_seed(0)))
    network.requires_grad_(False)
    return Classifier(network, {"num_classes": 2, "in_channels": 3}).eval()


TEACHER = linear_teacher()
CALIBRATION = Calibration([-99.0] * 2, -99.0, 0.0, [1, 1])


def synthesizer(name: str = "sd-DDIM", num_steps: int = 4, batch_size: int = 4) -> Synthesizer:
    pipeline, scale = build(name)
    config = GeneratorConfig(num_inference_steps=num_steps, guidance_scale=scale, batch_size=batch_size,
                             image_size=0 if name.startswith("dit") else SIZE)  # fmt: skip
    return Synthesizer(TextToImage(pipeline, None, config), TEACHER, GUIDANCE, CALIBRATION)


def plan(name: str = "sd-DDIM", seed: int = 0) -> PromptPlan:
    template = "{name}" if name.startswith("dit") else "a photo of a {name}"
    return plain_plan([ClassName("bell"), ClassName("cat")], seed, template)
