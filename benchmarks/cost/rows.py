"""The rows of the table: FLOPs, seconds and memory of every way of guiding, as ratios to none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.cost.flops import Pieces, count_pieces
from benchmarks.cost.seconds import EVERY_STEP, UNGUIDED, VARIANTS, EmbeddedDraws, Timing, interleave, time_shape
from benchmarks.cost.shapes import SHAPES, embedded_networks, shape_networks
from prismkd.classes import load_classes
from prismkd.classifiers import load_teacher
from prismkd.config import Config, GuidanceConfig
from prismkd.generators import load_generator
from prismkd.guidance import X0Map, edit_x0
from prismkd.prompts import plain_plan
from prismkd.prompts.dpe import with_defaults
from prismkd.prompts.plan import PROBE_SEED
from prismkd.synthesis.calibrate import measure_calibration
from prismkd.synthesis.synthesizer import Synthesizer

EMBEDDED = "embedded"


@dataclass(frozen=True)
class Row:
    """One way of guiding one generator.

    Attributes:
        shape: generator and image size.
        gradient: none, x0 (ours), or through the denoiser, in the band or at every step.
        decoder: what the gradient is taken through.
        guided_steps: steps of the schedule with guidance.
        guided_share: of images times guided steps, how many took a gradient; 1 is the worst case.
        gflops: per image.
        flops_ratio, seconds_ratio: relative to no guidance in the same run.
        seconds: per image; None where not measured, like the ratio.
        memory_gib: peak on the GPU, weights included.
    """

    shape: str
    gradient: str
    decoder: str
    guided_steps: int
    guided_share: float
    gflops: float
    flops_ratio: float
    seconds: float | None = None
    seconds_ratio: float | None = None
    memory_gib: float | None = None


def band_steps(scheduler: Any, steps: int, config: GuidanceConfig) -> int:
    """How many of the scheduler's own ``steps`` are guided: in the band and not the last, as the hook sees them."""
    scheduler.set_timesteps(steps)
    mappings: list[X0Map] = []

    def note(x0: Tensor, mapping: X0Map) -> None:
        mappings.append(mapping)

    x = torch.zeros(1, 1, 1, 1)
    with edit_x0(scheduler, note):
        for t in scheduler.timesteps:
            x = scheduler.step(torch.zeros_like(x), t, x).prev_sample
    in_band = [config.log_snr_min <= m.log_snr <= config.log_snr_max and not m.is_last for m in mappings]
    return sum(in_band)


def shape_rows(name: str, steps: int, config: GuidanceConfig, rounds: int, measure: bool) -> list[Row]:
    """Rows of a shape: FLOPs on the meta device; seconds and memory where there is a GPU and ``measure`` asks."""
    shape = SHAPES[name]
    pieces = count_pieces(shape_networks(shape, torch.device("meta")))
    timings: dict[Any, Timing] = {}
    if measure and torch.cuda.is_available():
        timings = time_shape(shape, torch.device("cuda"), torch.bfloat16, steps, config, rounds)
        torch.cuda.empty_cache()
    guided_steps = band_steps(shape.new_scheduler(), steps, config)
    return _rows(shape.title, pieces, steps, guided_steps, config, timings)


def embedded_rows(
    steps: int, config: GuidanceConfig, num_images: int, rounds: int, measure: bool, note: Callable[[str], None]
) -> list[Row]:
    """Rows of the embedded generator with its real weights, prompts and teacher; one more for guidance as it is used.

    In that row the calibrated guidance skips images that are under their target; the other rows are the worst case,
    where every image takes a gradient.
    """
    defaults = Config()
    classes = load_classes(defaults.classes)
    teacher = load_teacher(defaults.teacher, [item.name for item in classes])
    generator = load_generator(replace(defaults.generator, num_inference_steps=steps, device="cpu"))
    plan = plain_plan(classes, PROBE_SEED, with_defaults(defaults.prompts, "pictograms").template)
    prompts = [plan[config.num_calibration_images + i] for i in range(num_images)]
    pieces = count_pieces(embedded_networks(generator, teacher, [prompt.text for prompt in prompts]))
    guided_steps = band_steps(copy.deepcopy(generator.pipeline.scheduler), steps, config)
    title = f"embedded at {generator.pipeline.transformer.config.sample_size * generator.pipeline.vae_scale_factor}"
    if not measure or not guided_steps:
        return _rows(title, pieces, steps, guided_steps, config, {})
    note(f"embedded: calibration on {config.num_calibration_images} images")
    calibration = measure_calibration(plan, Synthesizer(generator, teacher), config, lambda count: None)[0]
    draws = EmbeddedDraws(generator, teacher, prompts, calibration, config)
    share = draws.share_guided()
    note(f"embedded: {len(VARIANTS) + 1} ways of drawing {num_images} images, {rounds} rounds after one untimed")
    timings = interleave(draws.all_draws(), rounds, num_images)
    rows = _rows(title, pieces, steps, guided_steps, config, timings)
    flops = pieces.guided("x0", "tiny", steps, guided_steps, config.num_views, share)
    as_used = Row(title, "x0", "tiny", guided_steps, round(share, 3), flops / 1e9, flops / pieces.unguided(steps))
    return [*rows[:2], _timed(as_used, timings.get("as used")), *rows[2:]]  # behind its worst case


def _rows(
    title: str, pieces: Pieces, steps: int, guided_steps: int, config: GuidanceConfig, timings: dict[Any, Timing]
) -> list[Row]:
    """A row per variant in the worst case, where every image takes a gradient at every guided step."""
    rows = []
    for variant in VARIANTS:
        gradient, decoder = variant
        count = 0 if variant == UNGUIDED else steps if gradient == EVERY_STEP else guided_steps
        flops = pieces.guided(gradient, decoder, steps, count, config.num_views, share=1.0)
        row = Row(title, gradient, decoder, count, float(count > 0), flops / 1e9, flops / pieces.unguided(steps))
        rows.append(_timed(row, timings.get(variant)))
    return rows


def _timed(row: Row, timing: Timing | None) -> Row:
    """The row with its seconds and memory, where they were measured."""
    if timing is None:
        return row
    return replace(row, seconds=timing.seconds, seconds_ratio=timing.ratio, memory_gib=timing.memory_gib)
