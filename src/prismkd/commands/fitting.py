"""``run --minutes``: what a run would take on this machine, measured in its first seconds, and sizes that fit in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from prismkd.commands.preview import Cost, preview
from prismkd.config import METHODS, Config
from prismkd.distillation import TrainingSet, train
from prismkd.prompts.plan import PROBE_SEED
from prismkd.runs.run import Run
from prismkd.runs.training import recipes
from prismkd.runs.workers import device_names
from prismkd.synthesis.calibrate import measure_calibration
from prismkd.synthesis.synthesizer import quantized

MAX_IMAGES, NUM_STEPS = 24, 4  # that are timed, of each kind, after as many that warm up
SPARE = 0.9  # of the minutes are planned for: probes and evaluation are known less well
SHARES = [tenths / 10 for tenths in range(10, 0, -1)]  # of the configured sizes that are tried, so that they stay round


@dataclass(frozen=True)
class Speeds:
    """Seconds of one device: per unguided and per guided image, per training step, and per image classified."""

    unguided: float
    guided: float
    step: float
    classified: float
    num_devices: int = 1


def measure(run: Run) -> Speeds:
    """Draw a few images without and with guidance, train a few steps on them, and keep nothing."""
    config, size = run.config, min(run.config.generator.batch_size, MAX_IMAGES)
    plan, synthesizer = run.plan("plain", PROBE_SEED), run.synthesizer("plain")
    prompts = [plan[index] for index in range(size)]
    with run.track("measuring this machine", 3 * size + NUM_STEPS + 1) as progress:
        few = replace(config.guidance, num_calibration_images=size)
        calibration, _ = measure_calibration(plan, synthesizer, few, progress)  # what comes first is slow anyway
        start = time.monotonic()
        images = quantized(synthesizer.draw_all(prompts, progress))
        unguided = time.monotonic() - start
        guided = unguided
        if any(METHODS[name].guided for name in config.methods):
            start = time.monotonic()
            replace(synthesizer, guidance=config.guidance, calibration=calibration).draw_all(prompts, progress)
            guided = time.monotonic() - start
        step = _seconds_per_step(run, TrainingSet(images, torch.tensor([prompt.label for prompt in prompts])))
        progress(NUM_STEPS + 1)
    start = time.monotonic()
    with torch.no_grad():
        synthesizer.teacher_on_device(images.to(run.generator.device), synthesizer.labels_of(prompts))
    classified = time.monotonic() - start
    devices = config.synthesis.num_workers or len(device_names(config.generator.device))
    return Speeds(unguided / size, guided / size, step, classified / size, devices)


def _seconds_per_step(run: Run, data: TrainingSet) -> float:
    """Of the recipe, after the first step."""
    recipe = replace(run.config.distillation, num_steps=NUM_STEPS + 1, stored_logits=False)
    times = list[float]()
    train(run.new_student(data.images.image_shape[0], 0), run.teacher, data, recipe, seed=0,
          progress=lambda count: times.append(time.monotonic()))  # fmt: skip
    return (times[-1] - times[0]) / NUM_STEPS


def seconds_of(config: Config, cost: Cost, num_test_images: int, speeds: Speeds) -> float:
    """What a whole run would take.

    Args:
        config: its settings.
        cost: how many images it draws for its prompts (``preview``).
        num_test_images: that students and teacher are tested on.
        speeds: of this machine.
    """
    methods = [METHODS[name] for name in config.methods]
    probes = (cost.sense_probes + cost.content_probes) * any(method.diversified for method in methods)
    calibration = config.guidance.num_calibration_images * any(method.guided for method in methods)
    # A method that spends what guided images cost takes as long as these.
    each = sum(speeds.guided if method.guided or method.budget_of else speeds.unguided
               for method in methods if method.draws_images)  # fmt: skip
    datasets = len(config.seeds) * len(methods)
    drawing = (probes + calibration) * speeds.unguided + len(config.seeds) * cost.images * each / speeds.num_devices
    training = datasets * len(recipes(config)) * config.distillation.num_steps * speeds.step
    # Each student sees the test images; teacher and judge see a data set's, up to a limit.
    seen = num_test_images * (1 + datasets) + 2 * datasets * min(cost.images, config.evaluation.max_images)
    return drawing + training + seen * speeds.classified


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
    return replace(
        config,
        synthesis=replace(config.synthesis, images_per_class=max(1, round(share * images))),
        distillation=replace(config.distillation, num_steps=max(1, round(share * steps))),
    )


def seconds_on(run: Run) -> Callable[[Config], float]:
    """Measure this machine; what a run of a configuration takes on it."""
    speeds = measure(run)
    num_test_images = len(run.test) if run.config.evaluation.source else 0
    return lambda config: seconds_of(config, preview(config, 0).cost, num_test_images, speeds)
