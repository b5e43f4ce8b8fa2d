"""The loop that guides through the denoiser: plain at strength 0, known moments, falling energy, real pictures."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from benchmarks.cost.through_denoiser import (
    NoiseLevel,
    flow_levels,
    images_through_denoiser,
    output_to_x0,
    sample_through_denoiser,
    variance_preserving_levels,
)
from prismkd.classes import load_classes
from prismkd.classifiers import Classifier
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.guidance.energy import hinge_energy

MEAN, VARIANCE = 0.7, 0.3
CLASSES = load_classes("pictograms-24")


def vp_levels(num_steps: int) -> list[NoiseLevel]:
    alphas_cumprod = torch.linspace(1, 0, 1001)[1:].clamp_min(1e-5)  # index is time
    return variance_preserving_levels(alphas_cumprod, range(999, -1, -1000 // num_steps))


def gaussian_x0(x: Tensor, level: NoiseLevel) -> Tensor:
    """``E[x0 | x_t]`` for data N(MEAN, VARIANCE)."""
    shrink = level.alpha * VARIANCE / (level.alpha**2 * VARIANCE + level.sigma**2)
    return MEAN + shrink * (x - level.alpha * MEAN)


def gaussian_network(prediction: str):
    """The optimal network for that data, in each parametrization."""

    def predict(x: Tensor, level: NoiseLevel) -> Tensor:
        x0 = gaussian_x0(x, level)
        eps = (x - level.alpha * x0) / level.sigma
        return {
            "epsilon": eps,
            "v_prediction": level.alpha * eps - level.sigma * x0,
            "flow_prediction": eps - x0,
        }[prediction]

    return predict


def noise(count: int = 4096) -> Tensor:
    """Normal quantiles: the moments of N(0, 1) without chance."""
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count).view(-1, 1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_unguided_samples_of_a_gaussian_have_its_moments(prediction) -> None:
    flow = prediction == "flow_prediction"
    levels = flow_levels([1 - i / 500 for i in range(500)]) if flow else vp_levels(500)
    end = sample_through_denoiser(gaussian_network(prediction), noise(), levels, prediction=prediction)
    assert math.isclose(float(end.mean()), MEAN, rel_tol=0.01)
    assert math.isclose(float(end.var()), VARIANCE, rel_tol=0.03)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_every_parametrization_gives_the_same_x0(prediction) -> None:
    level = NoiseLevel(0.6, 0.4, 400) if prediction == "flow_prediction" else NoiseLevel(0.6, 0.8, 400)
    x = noise(16)
    found = output_to_x0(gaussian_network(prediction)(x, level), x, level, prediction)
    assert torch.allclose(found, gaussian_x0(x, level))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_a_network_that_knows_the_one_image_there_is_goes_straight_to_it(prediction) -> None:
    """With x0 = m always, x_t = alpha m + sigma eps of one and the same eps at every level, whatever the levels."""
    image, eps = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64), torch.tensor([[1.0, -0.5, 0.2]])
    levels = flow_levels([0.9, 0.75, 0.4, 0.05]) if prediction == "flow_prediction" else vp_levels(8)
    outputs = {"epsilon": lambda x0, e, at: e, "v_prediction": lambda x0, e, at: at.alpha * e - at.sigma * x0,
               "flow_prediction": lambda x0, e, at: e - x0}  # fmt: skip
    seen: list[NoiseLevel] = []

    def network(x: Tensor, level: NoiseLevel) -> Tensor:
        assert torch.allclose(x, level.alpha * image + level.sigma * eps)
        seen.append(level)
        return outputs[prediction](image, (x - level.alpha * image) / level.sigma, level)

    start = levels[0].alpha * image + levels[0].sigma * eps
    assert torch.allclose(sample_through_denoiser(network, start, levels, prediction=prediction), image)
    assert seen == levels[:-1]


def test_without_strength_no_energy_is_asked_and_no_bit_moves() -> None:
    def network(x: Tensor, level: NoiseLevel) -> Tensor:
        return torch.tanh(x) + level.timestep / 1000

    def energy(x0: Tensor) -> Tensor:
        raise AssertionError("the energy was asked")

    levels, x = vp_levels(20), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    plain = sample_through_denoiser(network, x, levels)
    assert torch.equal(sample_through_denoiser(network, x, levels, energy, 0.0), plain)
    assert torch.equal(sample_through_denoiser(network, x, levels, energy, 0.5, guided=lambda level: False), plain)


def test_the_step_is_the_energys_gradient_through_the_network() -> None:
    """One step from sigma to 0 ends at ``x0 - strength rms(x0) g / rms(g)``, g by the chain rule through the net."""
    matrix = torch.tensor([[1.0, 0.4], [-0.3, 0.2]])
    level, x = NoiseLevel(0.8, 0.6, 500), torch.tensor([[0.5, -1.0]])
    x0 = (x - 0.6 * x @ matrix) / 0.8
    g = 2 * x0 @ ((torch.eye(2) - 0.6 * matrix) / 0.8).T
    expected = x0 - 0.1 * x0.pow(2).mean().sqrt() * g / g.pow(2).mean().sqrt()
    levels = [level, NoiseLevel(1.0, 0.0, 0.0)]
    found = sample_through_denoiser(lambda x, level: x @ matrix, x, levels, lambda x0: x0.pow(2).sum(1), 0.1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_guidance_lowers_the_energy_and_its_opposite_raises_it() -> None:
    def energy(x0: Tensor) -> Tensor:
        return (x0 - 2).pow(2).sum(1)

    def run(strength: float) -> Tensor:
        return sample_through_denoiser(gaussian_network("epsilon"), noise(64), vp_levels(20), energy, strength)

    assert energy(run(0.1)).mean() < energy(run(0.0)).mean() < energy(run(-0.1)).mean()


def test_pictures_are_recognized_and_guidance_lowers_their_energy(generator: TextToImage, teacher: Classifier) -> None:
    prompts = [f"a solid icon of a {item.name}" for item in CLASSES[:12]]
    labels, target = torch.arange(12), torch.full((len(CLASSES),), -6.0)

    def energy(images: Tensor) -> Tensor:
        return hinge_energy(teacher(images), labels, target)

    plain, guided = (images_through_denoiser(generator, prompts, list(range(12)), energy, s) for s in (0.0, 0.3))
    assert plain.shape == (12, 3, 64, 64)
    assert torch.equal(plain, images_through_denoiser(generator, prompts, list(range(12))))
    with torch.no_grad():
        agreement = (teacher(plain).argmax(1) == labels).float().mean()
        before, after = energy(plain).mean(), energy(guided).mean()
    assert agreement > 0.5  # chance is 1 / 24
    assert after < before


def test_the_noise_is_the_pipelines_own(generator: TextToImage) -> None:
    """Another solver from the same noise and prompts draws nearly the same pictures."""
    prompts = [f"a solid icon of a {item.name}" for item in CLASSES[:4]]
    ours, theirs = images_through_denoiser(generator, prompts, [1, 2, 3, 4]), generator.sample(prompts, [1, 2, 3, 4])
    correlation = torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]
    assert correlation > 0.8


def test_other_pipelines_are_refused(generator: TextToImage) -> None:
    other = copy.copy(generator)
    other.pipeline = SimpleNamespace(scheduler=DDIMScheduler())
    with pytest.raises(UserError, match="expected a PixArt pipeline with flow_prediction, got SimpleNamespace"):
        images_through_denoiser(other, ["a bell"], [0])
