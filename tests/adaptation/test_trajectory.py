"""A batch's denoising, recorded and played again: in every pipeline it is the pipeline's own, and it has a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prismkd.adaptation.low_rank import LowRank, low_rank
from prismkd.adaptation.trajectory import Step, Trajectory, record, replay
from prismkd.generators.lora import name_of_denoiser
from tests.adaptation.tiny import plan, synthesizer
from tests.generators.tiny_pipelines import PAIRS

KINDS = sorted({name.split("-")[0]: name for name in PAIRS}.values())


def recorded(name: str) -> tuple[Trajectory, list[int]]:
    drawing = synthesizer(name)
    prompts = [plan(name)[index] for index in range(2)]
    edit = drawing.new_guidance(drawing.labels_of(prompts))
    assert edit is not None and drawing.guidance is not None
    with torch.no_grad():
        found = record(drawing.generator, [p.text for p in prompts], [p.seed for p in prompts], edit)
    return found, found.in_band(drawing.guidance)


def filled(matrices: LowRank) -> None:
    """The matrices that are zero at first are random."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in matrices.parameters.items():
        if ".lora_B." in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("name", PAIRS)
def test_without_an_adapter_every_step_is_the_recorded_one(name: str) -> None:
    trajectory, places = recorded(name)
    assert places
    seen = list[int]()

    def compare(step: Step, x0: Tensor) -> None:
        assert step.x0 is not None and x0.requires_grad and not torch.is_inference_mode_enabled()
        # Not to the last bit: with gradients the same kernels may be called in another order
        assert torch.allclose(x0.detach(), step.x0, atol=1e-4 * float(step.x0.abs().max()))
        seen.append(trajectory.steps.index(step))

    generator = synthesizer(name).generator
    network: nn.Module = getattr(generator.pipeline, name_of_denoiser(generator.pipeline))
    forward = network.forward
    with low_rank(generator.pipeline, 2, 0):
        replay(generator, trajectory, places, compare)
    assert seen == places and network.forward == forward and torch.is_grad_enabled()


@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    trajectory, places = recorded(name)
    generator, losses = synthesizer(name).generator, list[Tensor]()
    with low_rank(generator.pipeline, 2, 0) as matrices:
        filled(matrices)
        parameters = list(matrices.parameters.values())

        def loss() -> Tensor:
            losses.clear()
            replay(generator, trajectory, places[:1], lambda step, x0: losses.append(x0.double().square().mean()))
            return losses[0]

        gradients = torch.autograd.grad(loss(), parameters)
        size = float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())
        assert size > 0
        values = []
        for sign in (1, -1):  # along the gradient, the derivative is its size
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter += (1 if sign == 1 else -2) * 1e-2 * gradient / size
            values.append(float(loss().detach()))
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(size, rel=0.05)


def test_guidance_moves_what_is_recorded_as_it_moves_what_is_drawn() -> None:
    trajectory, places = recorded("sd-DDIM")
    moved = [step.delta is not None for step in trajectory.steps]
    assert [place for place, is_moved in enumerate(moved) if is_moved] == places
    assert len(trajectory.steps) == places[-1] + 1  # nothing is drawn that nobody learns from
