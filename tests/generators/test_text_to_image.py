"""The embedded generator: offline, one seed per image, and guidance that lowers the energy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.classifiers import Classifier, load_teacher
from prismkd.config import Config, GuidanceConfig
from prismkd.data import load_labeled_images
from prismkd.generators import TextToImage, load_generator
from prismkd.guidance import Calibration, EnergyGuidance
from prismkd.guidance.energy import hinge_energy

NAMES = [item.name for item in load_classes("pictograms-24")]
NUM_CLASSES = len(NAMES)


@pytest.fixture(scope="module")
def generator() -> TextToImage:
    return load_generator(replace(Config().generator, num_inference_steps=6))


@pytest.fixture(scope="module")
def teacher() -> Classifier:
    return load_teacher("pictograms", NAMES)


def prompts(count: int) -> list[str]:
    return [f"an icon of a {name}" for name in NAMES[:count]]


def guidance(generator: TextToImage, teacher: Classifier, count: int, strength: float) -> EnergyGuidance:
    calibration = Calibration([-6.0] * NUM_CLASSES, -6.0, 0.0, [1] * NUM_CLASSES)
    config = GuidanceConfig(strength=strength)
    return EnergyGuidance(teacher, generator.decode, torch.arange(count), calibration, config)


def test_an_image_depends_on_its_own_seed_only(generator: TextToImage) -> None:
    together = generator.sample(prompts(4), [5, 6, 7, 8])
    alone = generator.sample(prompts(4)[2:3], [7])
    assert together.shape == (4, 3, 64, 64)
    assert (together[2] - alone[0]).abs().mean() < 0.02  # bfloat16 sums in another order
    assert (together[2] - together[3]).abs().mean() > 0.05


def test_strength_zero_is_bit_identical(generator: TextToImage, teacher: Classifier) -> None:
    plain = generator.sample(prompts(3), [1, 2, 3])
    assert torch.equal(plain, generator.sample(prompts(3), [1, 2, 3], guidance(generator, teacher, 3, 0.0)))


def test_guidance_lowers_the_energy_of_the_final_images(generator: TextToImage, teacher: Classifier) -> None:
    labels, target = torch.arange(12), torch.full((NUM_CLASSES,), -6.0)
    energies = []
    for strength in (0.0, 0.3):
        edit = guidance(generator, teacher, 12, strength)
        images = generator.sample(prompts(12), list(range(12)), edit)
        with torch.no_grad():
            energies.append(hinge_energy(teacher(images), labels, target).mean())
    assert energies[1] < energies[0]
    assert edit.num_edits is not None
    assert edit.num_edits.min() >= 0
    assert edit.num_edits.max() > 0


def test_the_negative_sign_raises_it(generator: TextToImage, teacher: Classifier) -> None:
    labels, target = torch.arange(12), torch.full((NUM_CLASSES,), -6.0)
    energies = []
    for strength in (0.3, -0.3):
        images = generator.sample(prompts(12), list(range(12)), guidance(generator, teacher, 12, strength))
        with torch.no_grad():
            energies.append(hinge_energy(teacher(images), labels, target).mean())
    assert energies[1] > energies[0]


def test_the_tiny_decoder_agrees_with_the_full_one_on_icons(generator: TextToImage) -> None:
    real = load_labeled_images(asset("real.parquet"), len(load_classes("pictograms")))
    icons = real.subset(np.linspace(0, len(real) - 1, 64, dtype=int)).images
    vae = generator.pipeline.vae
    with torch.no_grad():
        latents = vae.encode(icons * 2 - 1).latent_dist.mean * vae.config.scaling_factor
        full = vae.decode(latents / vae.config.scaling_factor).sample.add(1).div(2).clamp(0, 1)
        tiny = generator.decode(latents)
    correlation = torch.corrcoef(torch.stack([full.flatten(), tiny.flatten()]))[0, 1]
    assert correlation > 0.9
