"""Energy-guided Distribution Alignment: edit the x0 prediction inside a diffusers scheduler's ``step``.

For every common sampler the clean prediction is affine in the network's output, ``x0 = a x_t + b out``. So an
edit ``delta`` of x0 is ``out + delta / b``, and the scheduler does the rest. The gradient runs from x0 through the
decoder, the augmented views and the teacher to the energy; never through the denoiser. Our design, not the paper's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from prismkd.augmentation import random_views
from prismkd.config import GuidanceConfig
from prismkd.energy import free_energy, hinge_energy
from prismkd.errors import UserError
from prismkd.teachers import Classifier


@dataclass(frozen=True)
class X0Map:
    """``x0 = a x_t + b out`` at one step, with ``log_snr = log(alpha / sigma)``."""

    a: float
    b: float
    log_snr: float


def x0_map(scheduler: Any, timestep: Tensor | float) -> X0Map:
    """The affine map from the network's output to x0 that ``scheduler`` uses at ``timestep``.

    Raises:
        UserError: the scheduler's output can't be edited this way.
    """
    config = scheduler.config
    if getattr(scheduler, "order", 1) != 1 or config.get("thresholding") or config.get("clip_sample"):
        raise UserError(
            f"expected a first-order scheduler without clip_sample and thresholding, got {type(scheduler).__name__} "
            f"with order {getattr(scheduler, 'order', 1)}; switch to DDIMScheduler or DPMSolverMultistepScheduler"
        )
    flow = config.get("prediction_type") == "flow_prediction" or "FlowMatch" in type(scheduler).__name__
    if flow:
        sigma = _current_sigma(scheduler, timestep)
        return X0Map(1.0, -sigma, float(torch.logit(torch.tensor(1 - sigma))))
    if type(scheduler).__name__.startswith("Euler"):
        return _variance_exploding_map(scheduler, timestep)
    if hasattr(scheduler, "alphas_cumprod"):
        return _variance_preserving_map(scheduler, timestep)
    raise UserError(
        f"expected a flow, variance-preserving or Euler scheduler, got {type(scheduler).__name__}; use DDIMScheduler"
    )


def _current_sigma(scheduler: Any, timestep: Tensor | float) -> float:
    """The noise level of the step under way; the schedulers look it up by their own index."""
    if scheduler.step_index is None:
        scheduler._init_step_index(torch.as_tensor(timestep))
    return float(scheduler.sigmas[scheduler.step_index])


def _variance_exploding_map(scheduler: Any, timestep: Tensor | float) -> X0Map:
    """Euler schedulers keep ``x_t = x0 + sigma eps`` (Karras et al. 2022)."""
    sigma = _current_sigma(scheduler, timestep)
    log_snr = -float(torch.log(torch.tensor(sigma)))
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return X0Map(1.0, -sigma, log_snr)
    if kind == "v_prediction":
        return X0Map(1 / (sigma**2 + 1), -sigma / (sigma**2 + 1) ** 0.5, log_snr)
    raise UserError(f"expected prediction_type epsilon or v_prediction for {type(scheduler).__name__}, got {kind!r}")


def _variance_preserving_map(scheduler: Any, timestep: Tensor | float) -> X0Map:
    if hasattr(scheduler, "sigmas"):  # DPM-Solver++, UniPC, DEIS: sigma is relative to alpha
        relative = _current_sigma(scheduler, timestep)
        alpha = 1 / (1 + relative**2) ** 0.5
        sigma = relative * alpha
    else:  # DDIM, DDPM, PNDM, LCM, TCD
        alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
        alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    log_snr = float(torch.log(torch.tensor(alpha / max(sigma, 1e-12))))
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind == "epsilon":
        return X0Map(1 / alpha, -sigma / alpha, log_snr)
    if kind == "v_prediction":
        return X0Map(alpha, -sigma, log_snr)
    if kind == "sample":
        return X0Map(0.0, 1.0, log_snr)
    raise UserError(f"expected prediction_type epsilon, v_prediction, sample or flow_prediction, got {kind!r}")


@contextmanager
def edit_x0(scheduler: Any, edit: Callable[[Tensor, X0Map], Tensor | None]) -> Iterator[None]:
    """While active, ``scheduler.step`` moves every x0 prediction by ``edit(x0, x0_map)``.

    ``edit`` returns delta with the shape of x0, or None to leave the step bit-identical. The scheduler's class is
    swapped for a subclass and restored on exit, so that pipelines that inspect ``step`` see the same signature.
    """
    original = type(scheduler)

    @functools.wraps(original.step)
    def step(self: Any, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        mapping = x0_map(self, timestep)
        delta = edit(mapping.a * sample + mapping.b * model_output, mapping)
        if delta is not None:
            model_output = model_output + delta.to(model_output.dtype) / mapping.b
        return original.step(self, model_output, timestep, sample, *args, **kwargs)

    scheduler.__class__ = type(original.__name__, (original,), {"step": step})
    try:
        yield
    finally:
        scheduler.__class__ = original


@dataclass(frozen=True)
class Calibration:
    """Energies of unguided samples, which set the targets without any real image.

    Attributes:
        energy_target: per class, the free energy at which guidance stops.
        energy_all: the median over all classes.
        g_floor: gradients below this root mean square aren't scaled up.
        per_class_count: how many unguided samples each class's target rests on.
    """

    energy_target: list[float]
    energy_all: float
    g_floor: float
    per_class_count: list[int]


def calibrate(energies: Tensor, predictions: Tensor, gradients: Tensor, num_classes: int) -> Calibration:
    """Median energy of the samples that the teacher assigns to each class, shrunk where a class has few.

    Args:
        energies: (n,) free energies of unguided samples.
        predictions: (n,) the teacher's classes of them.
        gradients: root mean squares of energy gradients seen on the way.
        num_classes: number of classes.
    """
    energy_all = float(energies.median())
    targets, counts = [], []
    for label in range(num_classes):
        own = energies[predictions == label]
        counts.append(len(own))
        trust = len(own) / (len(own) + 4)  # four pseudo-samples at the overall median
        median = float(own.median()) if len(own) else energy_all
        targets.append(trust * median + (1 - trust) * energy_all)
    floor = 0.1 * float(gradients.median()) if len(gradients) else 0.0
    return Calibration(targets, energy_all, floor, counts)


@dataclass
class EnergyGuidance:
    """The edit of one batch: lower the teacher's energy of each image's x0, in the band and only where needed.

    Attributes:
        teacher: differentiable classifier of images in [0, 1].
        decode: latents (batch, ...) to images in [0, 1], differentiable; the tiny decoder where there is one.
        labels: (batch,) the class of each image.
        calibration: target energies.
        config: strength, band, views and weights.
        energy_before: (batch,) the free energy at the band's first step, filled while sampling.
        num_edits: (batch,) how many steps needed a gradient.
    """

    teacher: Classifier
    decode: Callable[[Tensor], Tensor]
    labels: Tensor
    calibration: Calibration
    config: GuidanceConfig
    energy_before: Tensor | None = None
    num_edits: Tensor | None = None
    gradient_sizes: list[Tensor] = field(default_factory=list)
    _steps: int = 0

    def __call__(self, x0: Tensor, mapping: X0Map) -> Tensor | None:
        """delta for x0 (batch, ...), or None outside the band and where no sample needs one."""
        if self.config.strength == 0 or not self.config.log_snr_min <= mapping.log_snr <= self.config.log_snr_max:
            return None
        with torch.inference_mode(False):
            x0 = x0.detach().clone().float()
            target = torch.tensor(self.calibration.energy_target, device=x0.device)
            needy = self._needs_guidance(x0, target)
            self._steps += 1
            if not needy.any():
                return None
            delta = torch.zeros_like(x0)
            delta[needy] = self._edit(x0[needy], self.labels[needy], target)
            return delta

    def _needs_guidance(self, x0: Tensor, target: Tensor) -> Tensor:
        """One cheap forward pass: is the sample above its target energy, or of another class?"""
        with torch.no_grad():
            logits = self.teacher(self.decode(x0))
        energy = free_energy(logits, self.config.temperature)
        needy = (energy > target[self.labels]) | (logits.argmax(1) != self.labels)
        if self.energy_before is None or self.num_edits is None:
            self.energy_before, self.num_edits = energy, torch.zeros_like(self.labels)
        self.num_edits = self.num_edits + needy
        return needy

    def _edit(self, x0: Tensor, labels: Tensor, target: Tensor) -> Tensor:
        """``-strength rms(x0) g / max(rms(g), g_floor)`` with g the energy's gradient, each rms per sample."""
        g = self._gradient(x0, labels, target)
        size = rms(g)
        self.gradient_sizes.append(size.flatten())
        return -self.config.strength * rms(x0) * g / size.clamp_min(max(self.calibration.g_floor, 1e-12))

    def _gradient(self, x0: Tensor, labels: Tensor, target: Tensor) -> Tensor:
        """Gradient of the energy's mean over views, which a step's images share: no image depends on its batch."""
        with torch.enable_grad():
            x0 = x0.requires_grad_(True)
            images = self.decode(x0)
            total = torch.zeros((), device=x0.device)
            for view in range(self.config.num_views):
                generator = torch.Generator().manual_seed(1000 * self._steps + view)
                logits = self.teacher(random_views(images, shared=True, generator=generator))
                energy = hinge_energy(logits, labels, target, margin_weight=self.config.margin_weight,
                                      label_weight=self.config.label_weight,
                                      temperature=self.config.temperature)  # fmt: skip
                total = total + energy.sum() / self.config.num_views
            (gradient,) = torch.autograd.grad(total, x0)
        return torch.nan_to_num(gradient)


def rms(x: Tensor) -> Tensor:
    """Root mean square of each sample, shaped to broadcast against ``x``."""
    return x.flatten(1).pow(2).mean(dim=1).sqrt().view(-1, *[1] * (x.ndim - 1))
