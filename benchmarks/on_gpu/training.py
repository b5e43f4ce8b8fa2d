"""Distillation at 224 pixels: the loop's images per second beside those of a bare loop."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.cost.seconds import time_once
from benchmarks.on_gpu.scale import Found, Scale, new_teacher
from prismkd.classifiers import Classifier
from prismkd.config import DistillationConfig
from prismkd.distillation import TrainingSet, new_student, train
from prismkd.distillation.losses import distillation_loss
from prismkd.distillation.training_set import to_float
from prismkd.distillation.world import World


def distillation(scale: Scale, found: Found, until: float) -> None:
    """The loop's images per second, images as bytes in memory, beside a bare loop of the same forward and backward.

    The bare loop's views are on the device beforehand, so the loop pays for loading, sending and augmenting as well.
    Both are timed without their start, and the loop without its end, where it keeps a checkpoint.
    """
    device, teacher = scale.device, new_teacher(scale, scale.device)
    world = World.of(DistillationConfig(), teacher)
    side = world.stored_side or scale.image_size  # as they lie in a cache
    images = torch.randint(0, 256, (scale.num_training_images, 3, side, side), dtype=torch.uint8)
    data = TrainingSet(images)
    for size in scale.distill_batches:
        row = found.setdefault(f"batch {size}", {"bare": [], "loop": []})
        recipe = DistillationConfig(architecture=scale.student, batch_size=size, mixed_precision="bf16",
                                    num_steps=scale.distill_steps + _num_untimed(scale))  # fmt: skip
        starts = range(0, len(images), size)[:4]  # more would show the networks nothing that these don't
        views = [device_views(world, images[start : start + size], device) for start in starts]
        row["milliseconds of a batch"] = batch_pieces(world, data, size, device)
        for _ in range(scale.num_rounds):
            start = time.monotonic()
            row["bare"].append(bare_speed(teacher, views, recipe, scale))
            row["loop"].append(loop_speed(teacher, data, recipe, scale, row))
            row["images_per_second"] = {name: median(row[name]) for name in ("bare", "loop")}
            row["share_of_bare"] = median(ours / bare for ours, bare in zip(row["loop"], row["bare"], strict=True))
            if time.monotonic() + (time.monotonic() - start) > until:
                break


def _num_untimed(scale: Scale) -> int:
    return max(1, scale.distill_steps // 4)


def device_views(world: World, images: Tensor, device: torch.device) -> Tensor:
    """Augmented views (batch, channels, height, width) of bytes, as the loop makes them."""
    views = world.views(to_float(images.to(device)), torch.Generator(device).manual_seed(0))
    return views.contiguous(memory_format=torch.channels_last)


def batch_pieces(world: World, data: TrainingSet, size: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of what the loop does with a batch before the networks see it."""
    places = torch.arange(size) % len(data)
    batch = next(data.batches([places]))
    sent = batch.to(device)
    works: dict[str, Callable[[], object]] = {
        "gathering": lambda: next(data.batches([places])),
        "sending": lambda: batch.to(device, non_blocking=True),
        "views": lambda: device_views(world, sent, device),
    }
    return {name: 1000 * median([time_once(work)[0] for _ in range(4)][1:]) for name, work in works.items()}


def bare_speed(teacher: Classifier, views: list[Tensor], recipe: DistillationConfig, scale: Scale) -> float:
    """Images per second of forward, backward and the optimizer's step alone, in the loop's precision and format."""
    device, untimed = scale.device, _num_untimed(scale)
    teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last)
    student = _student(recipe, scale).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    marks = []
    for step in range(recipe.num_steps):
        if step == untimed:
            marks.append(now_on(device))
        batch = views[step % len(views)]
        with torch.autocast(device.type, torch.bfloat16):
            student_logits = student(batch)
            with torch.no_grad():
                teacher_logits = teacher(batch)
        loss = distillation_loss(student_logits.float(), teacher_logits.float(), recipe.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return recipe.batch_size * (recipe.num_steps - untimed) / (now_on(device) - marks[0])


def loop_speed(teacher: Classifier, data: TrainingSet, recipe: DistillationConfig, scale: Scale, row: Found) -> float:
    """Images per second of the loop between two of its steps; the seconds of all of it and its memory go to ``row``."""
    untimed, marks, done = _num_untimed(scale), list[float](), 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done in (untimed, recipe.num_steps):
            marks.append(now_on(scale.device))

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, student = Path(folder) / "checkpoint.pt", _student(recipe, scale)
        row["whole_seconds"], row["memory_gib"] = time_once(
            lambda: train(student, teacher, data, recipe, 0, checkpoint, progress)
        )
    first, last = marks
    return recipe.batch_size * (recipe.num_steps - untimed) / (last - first)


def _student(recipe: DistillationConfig, scale: Scale) -> nn.Module:
    return new_student(recipe, scale.num_classes, 3, seed=0)


def now_on(device: torch.device) -> float:
    """The time once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
