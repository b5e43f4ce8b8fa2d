"""The x0 edit: exactness at strength 0, restoration, and a denoiser whose score is known."""

import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from prismkd.errors import UserError
from prismkd.guidance import X0Map, edit_x0, x0_map

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0, "final_sigmas_type": "zero"}
SCHEDULERS = {
    "ddim-eps": lambda: DDIMScheduler(clip_sample=False),
    "ddim-v": lambda: DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    "ddim-sample": lambda: DDIMScheduler(clip_sample=False, prediction_type="sample"),
    "dpm-eps": lambda: DPMSolverMultistepScheduler(),
    "dpm-v": lambda: DPMSolverMultistepScheduler(prediction_type="v_prediction"),
    "euler-eps": lambda: EulerDiscreteScheduler(),
    "euler-v": lambda: EulerDiscreteScheduler(prediction_type="v_prediction"),
    "euler-ancestral": lambda: EulerAncestralDiscreteScheduler(),
    "dpm-flow": lambda: DPMSolverMultistepScheduler(**FLOW),
    "ddpm-eps": lambda: DDPMScheduler(clip_sample=False),
    "ddpm-v": lambda: DDPMScheduler(clip_sample=False, prediction_type="v_prediction"),
    "unipc-eps": lambda: UniPCMultistepScheduler(),
    "unipc-flow": lambda: UniPCMultistepScheduler(**FLOW),
    "deis-v": lambda: DEISMultistepScheduler(prediction_type="v_prediction"),
    "lcm-eps": lambda: LCMScheduler(clip_sample=False, original_inference_steps=100),
    "flow-euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "pndm": lambda: PNDMScheduler(skip_prk_steps=True),
    "tcd": lambda: TCDScheduler(clip_sample=False, original_inference_steps=100),
}
X0_IS_GIVEN = ("ddim", "euler", "ddpm")  # step() returns pred_original_sample


def run(scheduler, network, num_steps: int = 12) -> Tensor:
    """The sampling loop that every pipeline has."""
    scheduler.set_timesteps(num_steps)
    torch.manual_seed(0)  # ancestral noise
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        out = network(scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x, t)
        x = scheduler.step(out, t, x).prev_sample
    return x


def network(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x) + 0.1 * torch.sin(t.float())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_edit_is_bit_identical_and_the_class_is_restored(name: str) -> None:
    plain = run(SCHEDULERS[name](), network)
    scheduler = SCHEDULERS[name]()
    before = type(scheduler)
    with edit_x0(scheduler, lambda x0, mapping: None):
        edited = run(scheduler, network)
    assert torch.equal(plain, edited)
    assert type(scheduler) is before


@pytest.mark.parametrize("name", [n for n in SCHEDULERS if n not in ("pndm", "tcd", "flow-euler")])
def test_our_x0_is_the_schedulers_own(name: str) -> None:
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(10)
    t = scheduler.timesteps[4]
    x, out = torch.randn(2, 3), torch.randn(2, 3)
    mapping = x0_map(scheduler, t)
    ours = mapping.a * x + mapping.b * out
    if name.startswith(X0_IS_GIVEN):
        theirs = scheduler.step(out, t, x).pred_original_sample
    elif name.startswith("lcm"):  # consistency models mix x0 with x_t at the boundary
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition_discrete(t)
        theirs = (scheduler.step(out, t, x).denoised - c_skip * x) / c_out
    elif name.startswith("deis"):  # works in eps
        eps, (alpha, sigma) = scheduler.convert_model_output(out, sample=x), alpha_and_sigma(scheduler, t)
        theirs = (x - sigma * eps) / alpha
    else:
        theirs = scheduler.convert_model_output(out, sample=x)
    assert torch.allclose(ours, theirs, atol=1e-5)


def alpha_and_sigma(scheduler, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha_bar = scheduler.alphas_cumprod[int(t)]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_edit_arrives_in_the_schedulers_x0(name: str) -> None:
    """With x0 replaced by a constant at every step, sampling ends at that constant."""
    scheduler = SCHEDULERS[name]()
    with edit_x0(scheduler, lambda x0, mapping: 0.7 - x0):
        end = run(scheduler, network, 40)
    assert torch.allclose(end, torch.full_like(end, 0.7), atol=0.06)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_last_step_is_known(name: str) -> None:
    scheduler, last = SCHEDULERS[name](), []
    with edit_x0(scheduler, lambda x0, mapping: last.append(mapping.is_last)):
        run(scheduler, network, 8)
    assert last[-1] and not any(last[:-2])


def test_log_snr_falls_with_noise_and_is_zero_where_signal_equals_noise() -> None:
    scheduler = DPMSolverMultistepScheduler(**FLOW)
    scheduler.set_timesteps(20)
    values = []
    for index in range(20):
        scheduler._step_index = index
        values.append(x0_map(scheduler, scheduler.timesteps[index]).log_snr)
    assert values == sorted(values)
    scheduler._step_index = 0
    scheduler.sigmas = torch.tensor([0.5, 0.0])
    assert abs(x0_map(scheduler, 500).log_snr) < 1e-6


@pytest.mark.parametrize("strength", [0.1, 0.3])
def test_guided_mean_of_a_gaussian_matches_the_closed_form(strength: float) -> None:
    """Data N(0, s^2): the optimal x0 is c_t x_t; a shift d of x0 in a band moves the flow ODE's end by a known amount.

    dx/dt = (x - x0) / t with x0 = c_t x + d. The deviation m of the mean obeys dm/dt = ((1 - c_t) m - d) / t from
    m(1) = 0, integrated here on a fine grid.
    """
    s2, steps, low, high = 0.25, 200, 0.4, 0.7

    def shrink(t: float) -> float:
        return (1 - t) * s2 / ((1 - t) ** 2 * s2 + t**2)

    expected, grid = 0.0, 50_000
    for i in range(grid, 0, -1):
        t = (i - 0.5) / grid
        shift = strength if low <= t <= high else 0.0
        expected -= ((1 - shrink(t)) * expected - shift) / t / grid

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        sigma = float(scheduler.sigmas[scheduler.step_index or 0]) if scheduler.step_index else float(t) / 1000
        return (x - shrink(sigma) * x) / sigma

    scheduler = DPMSolverMultistepScheduler(**FLOW)
    plain = run(scheduler, denoiser, steps)
    scheduler = DPMSolverMultistepScheduler(**FLOW)

    def edit(x0: Tensor, mapping: X0Map) -> Tensor | None:
        return torch.full_like(x0, strength) if low <= -mapping.b <= high else None  # b is -sigma for flow

    with edit_x0(scheduler, edit):
        guided = run(scheduler, denoiser, steps)
    assert math.isclose(float((guided - plain).mean()), expected, rel_tol=0.03)


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (HeunDiscreteScheduler(), "HeunDiscreteScheduler of order 2"),
        (DDIMScheduler(clip_sample=True), "clip_sample=True"),
        (DPMSolverMultistepScheduler(thresholding=True), "thresholding=True"),
        (DDIMScheduler(clip_sample=False, prediction_type="flow_prediction"), "for flow_prediction, got DDIMScheduler"),
        (LMSDiscreteScheduler(), "LMSDiscreteScheduler"),
        (DPMSolverSinglestepScheduler(), "DPMSolverSinglestepScheduler"),
    ],
)
def test_schedulers_that_cannot_be_edited_are_refused_with_the_reason(scheduler, reason: str) -> None:
    with pytest.raises(UserError, match=reason), edit_x0(scheduler, lambda x0, mapping: None):
        pass


def test_unknown_prediction_type_is_refused() -> None:
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.register_to_config(prediction_type="mystery")
    with pytest.raises(UserError, match="mystery"):
        x0_map(scheduler, 500)
