"""A Gaussian mixture has a known denoiser, so the mean and variance of guided samples are known too."""

import math

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from prismkd.guidance import X0Map, edit_x0

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0, "final_sigmas_type": "zero"}
MEANS, VARIANCE = torch.tensor([-3.0, 3.0]), 0.04
LOW, HIGH = 0.1, 0.3  # the band, in sigma: here the components are apart, so each keeps its samples
PULL, GOAL = 0.2, 2.5  # the edit moves x0 this far towards the goal


def shrinkage(t: float) -> float:
    """Cov(x0, x_t) / Var(x_t) within a component, with x_t = (1 - t) x0 + t eps."""
    return (1 - t) * VARIANCE / ((1 - t) ** 2 * VARIANCE + t**2)


def posterior_mean(x: Tensor, t: float) -> Tensor:
    """E[x0 | x_t] of the mixture, exactly."""
    deviations = x[..., None] - (1 - t) * MEANS
    weights = torch.softmax(-(deviations**2) / (2 * ((1 - t) ** 2 * VARIANCE + t**2)), dim=-1)
    return (weights * (MEANS + shrinkage(t) * deviations)).sum(-1)


def expected(mean: float, grid: int = 100_000) -> tuple[float, float]:
    """Mean and standard deviation of a component's guided samples.

    y = x - (1 - t) mean obeys dy/dt = ((1 - c(1 - k)) y - k (goal - mean)) / t, k being the pull inside the band and
    0 outside; it is linear, so a solution and a factor describe all samples. Integrated from t = 1, where y is noise.
    """
    offset, factor = 0.0, 1.0
    for i in range(grid, 0, -1):
        t = (i - 0.5) / grid
        pull = PULL if LOW <= t <= HIGH else 0.0
        rate = 1 - shrinkage(t) * (1 - pull)
        offset -= (rate * offset - pull * (GOAL - mean)) / t / grid
        factor -= rate * factor / t / grid
    return mean + offset, factor


def sample(num_steps: int, count: int) -> Tensor:
    scheduler = DPMSolverMultistepScheduler(**FLOW)
    scheduler.set_timesteps(num_steps)

    def edit(x0: Tensor, mapping: X0Map) -> Tensor | None:
        return PULL * (GOAL - x0) if LOW <= -mapping.b <= HIGH else None  # b is -sigma for flow

    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(0))
    with edit_x0(scheduler, edit):
        for index, t in enumerate(scheduler.timesteps):
            sigma = float(scheduler.sigmas[index])
            x = scheduler.step((x - posterior_mean(x, sigma)) / sigma, t, x).prev_sample
    return x.flatten()


def test_guided_mean_and_variance_of_each_component_match_the_closed_form() -> None:
    end = sample(250, 20_000)
    for component, mean in ((end[end < 0], -3.0), (end[end > 0], 3.0)):
        want_mean, want_std = expected(mean)
        assert abs(want_mean - mean) > 0.05  # the edit is felt
        assert math.isclose(float(component.mean()), want_mean, abs_tol=0.02)
        assert math.isclose(float(component.std()), want_std, rel_tol=0.06)
