"""Seconds of guided sampling, measured in turns with unguided sampling so that drift of the machine's speed cancels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.cost.shapes import Networks, Shape, shape_networks
from benchmarks.cost.through_denoiser import (
    NoiseLevel,
    images_through_denoiser,
    sample_through_denoiser,
    variance_preserving_levels,
)
from prismkd.classifiers import Classifier
from prismkd.classifiers.views import random_views
from prismkd.config import GuidanceConfig
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration, EnergyGuidance, edit_x0
from prismkd.guidance.energy import hinge_energy
from prismkd.prompts import Prompt

Variant = tuple[str, str]  # gradient, decoder
UNGUIDED: Variant = ("none", "none")
EVERY_STEP = "denoiser, every step"
VARIANTS: tuple[Variant, ...] = (
    UNGUIDED,
    ("x0", "tiny"),
    ("x0", "full"),
    ("denoiser, band", "tiny"),
    ("denoiser, band", "full"),
    (EVERY_STEP, "tiny"),
    (EVERY_STEP, "full"),
)


@dataclass(frozen=True)
class Timing:
    """Median seconds per image, their median ratio to unguided sampling in the same round, and peak memory."""

    seconds: float
    ratio: float
    memory_gib: float | None = None


def interleave(draws: dict[Any, Callable[[], object]], rounds: int, num_images: int) -> dict[Any, Timing]:
    """Time every draw once per round, in alternating order, after a round that isn't timed.

    Args:
        draws: what to time, by any key; ``UNGUIDED`` must be among them.
        rounds: how often.
        num_images: that each draw makes.

    Returns:
        By the same keys; a draw that ran out of GPU memory is left out.
    """
    times: dict[Any, list[float]] = {key: [] for key in draws}
    memory: dict[Any, float | None] = {}
    for turn in range(rounds + 1):
        order = list(times) if turn % 2 else list(times)[::-1]
        for key in order:
            try:
                seconds, memory[key] = time_once(draws[key])
            except torch.OutOfMemoryError:
                del times[key]
                continue
            if turn:
                times[key].append(seconds)
    timings = {}
    for key, seconds_of_rounds in times.items():
        # The median of the ratios, not the ratio of medians: a round in which the machine is slow is slow for both.
        ratios = [seconds / base for seconds, base in zip(seconds_of_rounds, times[UNGUIDED], strict=True)]
        timings[key] = Timing(median(seconds_of_rounds) / num_images, median(ratios), memory[key])
    return timings


def time_once(draw: Callable[[], object]) -> tuple[float, float | None]:
    """Seconds, and the peak of GPU memory in GiB where a GPU was used."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        draw()
        return time.perf_counter() - start, None
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    draw()
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30 or None


def views_energy(teacher: Classifier, labels: Tensor, target: Tensor, views: int) -> Callable[[Tensor], Tensor]:
    """Images in [0, 1] to the hinge energy (batch,), the mean over ``views`` views: what the rivals descend here."""

    def energy(images: Tensor) -> Tensor:
        total = torch.zeros(len(images), device=images.device)
        for view in range(views):
            seen = random_views(images, shared=True, generator=torch.Generator().manual_seed(view))
            total = total + hinge_energy(teacher(seen), labels, target) / views
        return total

    return energy


def in_band(config: GuidanceConfig) -> Callable[[NoiseLevel], bool]:
    """Whether a level's log(alpha / sigma) lies in the guided band."""

    def is_inside(level: NoiseLevel) -> bool:
        return level.alpha > 0 and config.log_snr_min <= math.log(level.alpha / level.sigma) <= config.log_snr_max

    return is_inside


# --- the embedded generator --------------------------------------------------------------------------------------


@dataclass
class EmbeddedDraws:
    """Ways of drawing one batch of prompts with a loaded PixArt generator.

    Attributes:
        generator, teacher: as loaded.
        prompts: of the batch.
        calibration: of the unguided generator.
        config: guidance, as used.
        last: the guidance that acted in the last x0-guided draw.
    """

    generator: TextToImage
    teacher: Classifier
    prompts: list[Prompt]
    calibration: Calibration
    config: GuidanceConfig
    last: EnergyGuidance | None = None

    def __post_init__(self) -> None:
        device = self.generator.device
        self.texts = [prompt.text for prompt in self.prompts]
        self.seeds = [prompt.seed for prompt in self.prompts]
        self.labels = torch.tensor([prompt.label for prompt in self.prompts], device=device)
        self.target = torch.tensor(self.calibration.energy_target, device=device)

    def draw(self, variant: Variant, config: GuidanceConfig) -> Tensor:
        """Images (batch, channels, height, width) in [0, 1], guided as ``variant`` and ``config`` say."""
        gradient, decoder = variant
        decode = self.generator.decode if decoder == "tiny" else self.generator.decode_fully
        if gradient == "none":
            return self.generator.sample(self.texts, self.seeds)
        if gradient == "x0":
            self.last = EnergyGuidance(self.teacher, decode, self.labels, self.calibration, config)
            return self.generator.sample(self.texts, self.seeds, self.last)
        energy = views_energy(self.teacher, self.labels, self.target, config.num_views)
        levels = {} if gradient == EVERY_STEP else {"guided": in_band(config)}
        return images_through_denoiser(
            self.generator, self.texts, self.seeds, energy, config.strength, decode=decode, **levels
        )

    def share_guided(self) -> float:
        """Share of images times steps of the band to which the calibrated guidance gives a gradient."""
        self.draw(("x0", "tiny"), self.config)
        assert self.last is not None and self.last.num_edits is not None
        return float(self.last.num_edits.sum()) / (len(self.labels) * max(self.last.num_band_steps, 1))

    def all_draws(self) -> dict[Any, Callable[[], object]]:
        """Every variant in the worst case, where no image is left out, and x0 guidance ``as used``."""
        worst_case = replace(self.config, skip_satisfied=False)
        draws: dict[Any, Callable[[], object]] = {
            variant: partial(self.draw, variant, worst_case) for variant in VARIANTS
        }
        draws["as used"] = partial(self.draw, ("x0", "tiny"), self.config)
        return draws


# --- shapes on a GPU ---------------------------------------------------------------------------------------------


def time_shape(
    shape: Shape, device: torch.device, dtype: torch.dtype, steps: int, config: GuidanceConfig, rounds: int
) -> dict[Any, Timing]:
    """Time every variant of a shape with random weights, one image at a time."""
    networks = shape_networks(shape, device, dtype)
    draws: dict[Any, Callable[[], object]] = {
        variant: partial(draw_shape, shape, networks, steps, variant, config) for variant in VARIANTS
    }
    return interleave(draws, rounds, num_images=1)


def draw_shape(shape: Shape, networks: Networks, steps: int, variant: Variant, config: GuidanceConfig) -> Tensor:
    """One image (1, 3, height, width) in [0, 1] of random weights, guided at every step of the band."""
    gradient, decoder = variant
    if gradient.startswith("denoiser"):
        latents = _latents_through_denoiser(shape, networks, steps, variant, config)
    else:
        edit = _worst_case_edit(networks, decoder, config) if gradient == "x0" else None
        scheduler = shape.new_scheduler()
        scheduler.set_timesteps(steps)
        latents = denoise(networks, scheduler, edit)
    with torch.no_grad():
        return networks.decoders["full"](latents)


def _latents_through_denoiser(
    shape: Shape, networks: Networks, steps: int, variant: Variant, config: GuidanceConfig
) -> Tensor:
    """The rivals' loop, in the band or at every step."""
    gradient, decoder = variant
    scheduler = shape.new_scheduler()
    scheduler.set_timesteps(steps)
    levels = variance_preserving_levels(scheduler.alphas_cumprod, [int(t) for t in scheduler.timesteps])
    target = torch.zeros(networks.teacher.num_classes, device=networks.noise.device)
    energy = views_energy(networks.teacher, _one_label(networks), target, config.num_views)
    return sample_through_denoiser(
        lambda x, level: networks.predict(x, level.timestep), networks.noise, levels,
        lambda x0: energy(networks.decoders[decoder](x0)), config.strength,
        guided=(lambda level: True) if gradient == EVERY_STEP else in_band(config))  # fmt: skip


def _worst_case_edit(networks: Networks, decoder: str, config: GuidanceConfig) -> EnergyGuidance:
    """Guidance by x0 that leaves no image out. The targets are zero: with random weights there is none to reach."""
    count = networks.teacher.num_classes
    uncalibrated = Calibration([0.0] * count, energy_all=0.0, g_floor=0.0, per_class_count=[0] * count)
    worst_case = replace(config, skip_satisfied=False)
    return EnergyGuidance(networks.teacher, networks.decoders[decoder], _one_label(networks), uncalibrated, worst_case)


def _one_label(networks: Networks) -> Tensor:
    return torch.zeros(1, dtype=torch.long, device=networks.noise.device)


@torch.no_grad()
def denoise(networks: Networks, scheduler: Any, edit: EnergyGuidance | None) -> Tensor:
    """The sampling loop that every pipeline has: ``networks.noise`` to x0, with the scheduler's timesteps set."""
    x = networks.noise * scheduler.init_noise_sigma
    with edit_x0(scheduler, edit) if edit is not None else nullcontext():
        for t in scheduler.timesteps:
            output = networks.predict(scheduler.scale_model_input(x, t), float(t))
            x = scheduler.step(output, t, x).prev_sample
    return x
