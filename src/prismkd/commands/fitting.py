"""``run --minutes``: sizes of a run that fit into so many minutes on this machine, and fewer threads on a busy one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from prismkd.commands.estimate import DISTILLATION, GUIDES, IMAGES, Estimate, estimate, measure_steps
from prismkd.config import METHODS, Config
from prismkd.runs.run import Run

SPARE = 0.9  # of the minutes are planned for: other work on the machine comes and goes
SHARES = [tenths / 10 for tenths in range(10, 0, -1)]  # of the configured sizes that are tried, so that they stay round
FASTER = 1.2  # times the speed of all threads that one alone needs, to be chosen
NUM_STEPS = 200  # of which a share is timed; short, since every number of threads is tried


def fitting_threads(run: Run) -> int:
    """1 where one thread trains faster than all of them, as beside other work; else the setting as it is.

    A thread that shares its core with another process keeps the others waiting at every operation of a training.
    """
    every = torch.get_num_threads()
    if run.config.num_threads or every == 1 or run.generator.device.type != "cpu":
        return run.config.num_threads
    generator, seconds = run.generator, dict[int, float]()
    drawn = (generator.num_channels, generator.image_size, generator.image_size)
    for count in (1, every):
        torch.set_num_threads(count)
        seconds[count] = measure_steps(run, NUM_STEPS, drawn).seconds
    if FASTER * seconds[1] > seconds[every]:
        return 0
    torch.set_num_threads(1)
    return 1


def seconds_on(run: Run) -> Callable[[Config], float]:
    """Measure this machine; what a run of a configuration takes on it, which may be smaller than ``run``'s."""
    found = estimate(run, price=0.0)
    return lambda config: seconds_of(found, run.config, config)


def seconds_of(found: Estimate, estimated: Config, config: Config) -> float:
    """What a run takes whose images and steps are others than those of the configuration that was estimated."""
    factors = {
        IMAGES: config.synthesis.images_per_class / estimated.synthesis.images_per_class,
        DISTILLATION: (steps := config.distillation.num_steps / estimated.distillation.num_steps),
        GUIDES: steps,
    }
    return 60 * sum(stage.minutes * factors.get(stage.stage, 1.0) for stage in found.stages)


def fitting(config: Config, seconds: Callable[[Config], float], minutes: float) -> Config:
    """The configuration, or the largest share of its images and steps that fits into so many minutes.

    Args:
        config: with the sizes that are wanted.
        seconds: what a run of a configuration takes.
        minutes: that there are.
    """
    candidates = [_scaled(config, share) for share in SHARES]
    return next((found for found in candidates if seconds(found) <= SPARE * 60 * minutes), candidates[-1])


def _scaled(config: Config, share: float) -> Config:
    images, steps = config.synthesis.images_per_class, config.distillation.num_steps
    in_rounds = any(METHODS[method].in_rounds for method in config.methods)
    least = config.rounds.num_rounds if in_rounds else 1
    return replace(
        config,
        synthesis=replace(config.synthesis, images_per_class=max(least, round(share * images))),
        distillation=replace(config.distillation, num_steps=max(1, round(share * steps))),
    )
