"""How each diffusers scheduler gets the clean prediction x0 from the network's output: ``x0 = a x_t + b out``.

Every common sampler is affine in this way, so editing x0 is editing the output (``hook.py``). The noise conventions:

    variance preserving   x_t = alpha x0 + sigma eps, alpha^2 + sigma^2 = 1
    variance exploding    x_t = x0 + sigma eps
    flow                  x_t = (1 - sigma) x0 + sigma eps

To add a scheduler, put its class name into the tuple of its convention and of where it keeps its noise levels, below;
then add it to ``tests/guidance/test_schedulers.py``, where our x0 is compared with the scheduler's own and the edit
must arrive in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prismkd.errors import UserError

# Variance preserving, with the levels in ``alphas_cumprod``, looked up by the timestep.
BY_TIMESTEP = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler")
# Variance preserving, or flow where prediction_type says so, with the levels in ``sigmas``, looked up by the step.
BY_SIGMA = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
EXPLODING = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
FLOW = ("FlowMatchEulerDiscreteScheduler",)
SUPPORTED = BY_TIMESTEP + BY_SIGMA + EXPLODING + FLOW

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow_prediction")
TINY = 1e-12  # in place of zero: schedules of zero terminal SNR begin at alpha = 0, and some end at sigma = 0


@dataclass(frozen=True)
class X0Map:
    """``x0 = a x_t + b out`` at one step.

    Attributes:
        a, b: the coefficients.
        log_snr: log(alpha / sigma) of the step's noise level.
        is_last: whether this is the schedule's last step, which guidance leaves alone.
    """

    a: float
    b: float
    log_snr: float
    is_last: bool = False


def check_scheduler(scheduler: Any) -> None:
    """Refuse the schedulers whose x0 prediction can't be edited through the network's output.

    Raises:
        UserError: an unknown scheduler, several network calls per step, a clipped x0, or an unknown prediction type.
    """
    name = type(scheduler).__name__
    remedy = f"; set generator.scheduler to one of {', '.join(SUPPORTED)}"
    if getattr(scheduler, "order", 1) != 1:
        raise UserError(f"expected a scheduler with one network call per step, got {name} of order 2{remedy}")
    if _convention(scheduler) is None:
        raise UserError(f"expected a scheduler whose x0 is known to be affine in the output, got {name}{remedy}")
    for option in ("thresholding", "clip_sample"):
        if scheduler.config.get(option):
            raise UserError(
                f"expected {name} without {option}, which isn't affine, got {option}=True; switch it off in the "
                "pipeline's scheduler_config.json"
            )
    _check_prediction_type(name, scheduler.config, remedy)


def _check_prediction_type(name: str, config: Any, remedy: str) -> None:
    kind = config.get("prediction_type", "flow_prediction" if name in FLOW else "epsilon")
    if kind == "flow_prediction" and name not in FLOW + BY_SIGMA:
        raise UserError(
            f"expected a flow scheduler ({', '.join(FLOW + BY_SIGMA)}) for flow_prediction, got {name}{remedy}"
        )
    if kind not in PREDICTION_TYPES:
        raise UserError(
            f"expected prediction_type epsilon, v_prediction, sample or flow_prediction, got {kind!r}; correct it in "
            "the pipeline's scheduler_config.json"
        )


def x0_map(scheduler: Any, timestep: Tensor | float) -> X0Map:
    """The affine map from the network's output to x0 that ``scheduler`` uses at ``timestep``.

    Raises:
        UserError: the scheduler isn't supported (``check_scheduler``).
    """
    check_scheduler(scheduler)
    convention = _convention(scheduler)
    prediction_type = scheduler.config.get("prediction_type", "epsilon")
    if convention == "flow":
        sigma = _current_sigma(scheduler, timestep)
        alpha = 1.0 - sigma
        a, b = 1.0, -sigma  # out = eps - x0, so x_t - sigma out = (1 - sigma) x0 + sigma x0
    elif convention == "exploding":
        sigma, alpha = _current_sigma(scheduler, timestep), 1.0
        a, b = _exploding_coefficients(prediction_type, sigma)
    else:
        alpha, sigma = _alpha_and_sigma(scheduler, timestep)
        a, b = _preserving_coefficients(prediction_type, alpha, sigma)
    # log(alpha / sigma) means the same in all three conventions, so that one band serves diffusion and flow models.
    log_snr = math.log(max(alpha, TINY) / max(sigma, TINY))
    return X0Map(a, b, log_snr, is_last=float(timestep) == float(scheduler.timesteps[-1]))


def _convention(scheduler: Any) -> str | None:
    """flow, exploding or preserving; None for an unknown scheduler. A subclass is as its parent is."""
    names = {parent.__name__ for parent in type(scheduler).__mro__}
    if names & {*FLOW}:
        return "flow"
    if names & {*EXPLODING}:
        return "exploding"
    if names & {*BY_SIGMA}:
        return "flow" if scheduler.config.prediction_type == "flow_prediction" else "preserving"
    return "preserving" if names & {*BY_TIMESTEP} else None


def _current_sigma(scheduler: Any, timestep: Tensor | float) -> float:
    """The noise level of the step under way, looked up by the scheduler's own index, as its ``step`` does."""
    if scheduler.step_index is None:  # before the first step; ``step`` itself would set it only after us
        scheduler._init_step_index(torch.as_tensor(timestep))
    return float(scheduler.sigmas[scheduler.step_index])


def _alpha_and_sigma(scheduler: Any, timestep: Tensor | float) -> tuple[float, float]:
    """alpha and sigma of a variance-preserving scheduler."""
    if hasattr(scheduler, "sigmas"):  # these store sigma / alpha, as variance-exploding ones do
        relative = _current_sigma(scheduler, timestep)
        alpha = 1 / math.sqrt(1 + relative**2)
        return alpha, relative * alpha
    alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])  # alpha^2
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def _preserving_coefficients(prediction_type: str, alpha: float, sigma: float) -> tuple[float, float]:
    """(a, b) from ``x_t = alpha x0 + sigma eps`` and, for v (Salimans and Ho 2022), ``v = alpha eps - sigma x0``."""
    alpha = max(alpha, TINY)
    return {
        "epsilon": (1 / alpha, -sigma / alpha),  # x0 = (x_t - sigma eps) / alpha
        "v_prediction": (alpha, -sigma),  # x0 = alpha x_t - sigma v
        "sample": (0.0, 1.0),  # the output is x0
    }[prediction_type]


def _exploding_coefficients(prediction_type: str, sigma: float) -> tuple[float, float]:
    """(a, b) from ``x_t = x0 + sigma eps``; v is that of the rescaled ``x_t / sqrt(sigma^2 + 1)``."""
    variance = sigma**2 + 1
    return {
        "epsilon": (1.0, -sigma),  # x0 = x_t - sigma eps
        "v_prediction": (1 / variance, -sigma / math.sqrt(variance)),  # x0 = x_t / (sigma^2 + 1) - v sigma / sqrt(...)
        "sample": (0.0, 1.0),  # the output is x0
    }[prediction_type]
