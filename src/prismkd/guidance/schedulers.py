"""How each diffusers scheduler gets x0 from the network's output: ``x0 = a x_t + b out``.

The conventions: variance preserving ``x_t = alpha x0 + sigma eps`` with alpha^2 + sigma^2 = 1, variance exploding
``x_t = x0 + sigma eps``, flow ``x_t = (1 - sigma) x0 + sigma eps``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prismkd.errors import UserError

BY_TIMESTEP = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler")
BY_SIGMA = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
EXPLODING = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
FLOW = ("FlowMatchEulerDiscreteScheduler",)
SUPPORTED = BY_TIMESTEP + BY_SIGMA + EXPLODING + FLOW


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
        UserError: an unknown scheduler, several network calls per step, or a clipped x0.
    """
    name, config = type(scheduler).__name__, scheduler.config
    remedy = f"; set generator.scheduler to one of {', '.join(SUPPORTED)}"
    if getattr(scheduler, "order", 1) != 1:
        raise UserError(f"expected a scheduler with one network call per step, got {name} of order 2{remedy}")
    if _family(scheduler) is None:
        raise UserError(f"expected a scheduler whose x0 is known to be affine in the output, got {name}{remedy}")
    for option in ("thresholding", "clip_sample"):
        if config.get(option):
            raise UserError(
                f"expected {name} without {option}, which isn't affine, got {option}=True; switch it off in the "
                "pipeline's scheduler_config.json"
            )
    kind = config.get("prediction_type", "flow_prediction" if name in FLOW else "epsilon")
    if kind == "flow_prediction" and name not in FLOW + BY_SIGMA:
        raise UserError(
            f"expected a flow scheduler ({', '.join(FLOW + BY_SIGMA)}) for flow_prediction, got {name}{remedy}"
        )
    if kind not in ("epsilon", "v_prediction", "sample", "flow_prediction"):
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
    family = _family(scheduler)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if family == "flow":
        sigma = _current_sigma(scheduler, timestep)
        a, b, alpha = 1.0, -sigma, 1.0 - sigma
    elif family == "exploding":
        sigma, alpha = _current_sigma(scheduler, timestep), 1.0
        a, b = _exploding_coefficients(kind, sigma)
    else:
        alpha, sigma = _alpha_and_sigma(scheduler, timestep)
        a, b = _preserving_coefficients(kind, alpha, sigma)
    log_snr = math.log(max(alpha, 1e-12) / max(sigma, 1e-12))
    return X0Map(a, b, log_snr, is_last=float(timestep) == float(scheduler.timesteps[-1]))


def _family(scheduler: Any) -> str | None:
    names = {kind.__name__ for kind in type(scheduler).__mro__}
    if names & {*FLOW}:
        return "flow"
    if names & {*EXPLODING}:
        return "exploding"
    if names & {*BY_SIGMA}:
        return "flow" if scheduler.config.prediction_type == "flow_prediction" else "preserving"
    return "preserving" if names & {*BY_TIMESTEP} else None


def _current_sigma(scheduler: Any, timestep: Tensor | float) -> float:
    """The noise level of the step under way; these schedulers look it up by their own index."""
    if scheduler.step_index is None:
        scheduler._init_step_index(torch.as_tensor(timestep))
    return float(scheduler.sigmas[scheduler.step_index])


def _alpha_and_sigma(scheduler: Any, timestep: Tensor | float) -> tuple[float, float]:
    """alpha and sigma of a variance-preserving scheduler."""
    if hasattr(scheduler, "sigmas"):  # sigma is relative to alpha
        relative = _current_sigma(scheduler, timestep)
        alpha = 1 / math.sqrt(1 + relative**2)
        return alpha, relative * alpha
    alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def _preserving_coefficients(kind: str, alpha: float, sigma: float) -> tuple[float, float]:
    """``x0 = (x_t - sigma eps) / alpha``, and with ``v = alpha eps - sigma x0``: ``x0 = alpha x_t - sigma v``."""
    alpha = max(alpha, 1e-12)  # schedules of zero terminal SNR begin at alpha = 0
    return {"epsilon": (1 / alpha, -sigma / alpha), "v_prediction": (alpha, -sigma), "sample": (0.0, 1.0)}[kind]


def _exploding_coefficients(kind: str, sigma: float) -> tuple[float, float]:
    """``x0 = x_t - sigma eps``; v is that of the rescaled ``x_t / sqrt(1 + sigma^2)`` (Karras et al. 2022)."""
    scale = sigma**2 + 1
    return {"epsilon": (1.0, -sigma), "v_prediction": (1 / scale, -sigma / math.sqrt(scale)), "sample": (0.0, 1.0)}[
        kind
    ]
