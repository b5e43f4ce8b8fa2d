"""What the training loop costs beside forward and backward, and what the fast mode costs in agreement.

Usage: python -m benchmarks.distillation [--part loop] [--part stored] [--part photos]
       python -m benchmarks.publish

The bare loop does the teacher's forward, the student's forward, backward and the optimizer's step, on the very views
that prismkd's loop computes, made beforehand; prismkd's starts, keeps checkpoints and looks for lost classes at the
end, which is a fixed cost. Both take turns, and the fastest of each are compared: whatever else a machine does only
adds to the others. Every figure is a ratio within one run on one machine. ``photos`` does the same at the true size of
photographs, from shards of 512 pixels by way of the cache, and times the cache. A step takes seconds there, and other
work on the machine would hit one loop more than the other. So both are measured in CPU seconds of this process, in
which everything happens, from the first step's end to the last one's.
It writes ``benchmarks/results/distillation.json``, and for ``photos`` ``benchmarks/results/photos.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.embedded import embedded_session, real_images
from benchmarks.publish import RESULTS, write_results
from prismkd import Session
from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import new_network
from prismkd.classifiers.precision import fast_matmul
from prismkd.classifiers.views import random_views
from prismkd.config import DistillationConfig
from prismkd.config.seeds import derive
from prismkd.data import LabeledImages
from prismkd.distillation import TrainingSet, new_student, open_images, to_bytes, train
from prismkd.distillation.cache import CachePlace
from prismkd.distillation.losses import distillation_loss
from prismkd.distillation.training_set import to_float
from prismkd.distillation.world import World
from prismkd.shards import Encoding, Sample, write_shard

NUM_PAIRS, NUM_STEPS, SHARD_SIZE = 5, 160, 480
STORED_STEPS, STORED_SEEDS = 400, (0, 1, 2)
NUM_PHOTOS, PHOTO_SIDE, PHOTO_CLASSES = 240, 512, 10
PHOTO_RECIPE = DistillationConfig(architecture="resnet18", num_steps=5, batch_size=16)
PHOTO_TEACHER = {"num_classes": PHOTO_CLASSES, "in_channels": 3, "resize": 256, "crop": [224, 224],
                 "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # fmt: skip
NUM_PHOTO_PAIRS = 4
BYTES_IN_MEMORY = {"memory": 1e9, "tars": 0.0}  # by where the loop takes its images from


# --- the loop over a bare one ------------------------------------------------------------------------------------


def measure_loop() -> dict[str, Any]:
    """Steps per second of prismkd's loop with images from shards, over those of the bare loop."""
    session = embedded_session(NUM_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(folder, real_images(session))
        measured = {}
        for source, max_bytes in BYTES_IN_MEMORY.items():
            data = TrainingSet(*open_images(folder, max_bytes, session.config.distillation.num_workers))
            measured[source] = _pairs(session, data, Path(folder) / "checkpoint.pt")
    return measured


def _pairs(session: Session, data: TrainingSet, checkpoint: Path) -> dict[str, Any]:
    """The bare loop and prismkd's in turns."""
    recipe, num_classes = session.config.distillation, len(session.classes)
    views, pairs = list(views_of(data, recipe)), []
    for _ in range(NUM_PAIRS + 1):
        channels, _, side = data.images.image_shape
        students = [new_student(recipe, num_classes, channels, seed=0, side=side) for _ in range(2)]
        start = time.perf_counter()
        train_bare(students[0], session.teacher, views, recipe)
        middle = time.perf_counter()
        train(students[1], session.teacher, data, recipe, 0, checkpoint, lambda count: None)
        pairs.append((middle - start, time.perf_counter() - middle))
        checkpoint.unlink()
    pairs = pairs[1:]  # the first one warms up
    bare, ours = (min(seconds) for seconds in zip(*pairs, strict=True))
    return {"ratio": bare / ours, "ratios": [first / second for first, second in pairs], "steps": NUM_STEPS,
            "batch_size": recipe.batch_size, "images_per_second": NUM_STEPS * recipe.batch_size / ours}  # fmt: skip


def views_of(data: TrainingSet, recipe: DistillationConfig) -> list[Tensor]:
    """The views of seed 0, as the loop computes them."""
    views = []
    for step in range(recipe.num_steps):
        generator = torch.Generator().manual_seed(derive(0, "batch", step))
        (images,) = data.batches([data.draw(generator, recipe.batch_size)])
        views.append(random_views(to_float(images), generator=generator).contiguous(memory_format=torch.channels_last))
    return views


def train_bare(
    student: nn.Module, teacher: Classifier, views: list[Tensor], recipe: DistillationConfig,
    ends: list[float] | None = None,
) -> None:  # fmt: skip
    """Forward and backward, and nothing else; the CPU time when each step ended goes to ``ends``."""
    student.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    for batch in views:
        with fast_matmul(batch.device):  # as the loop computes, or the ratio would be one of precisions
            with torch.no_grad():
                teacher_logits = teacher(batch, cropped=True)
            student_logits = student(batch)
        loss = distillation_loss(student_logits.float(), teacher_logits.float(), recipe.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if ends is not None:
            ends.append(time.process_time())


def write_shards(folder: str, real: LabeledImages) -> None:
    """Images as a data set in shards."""
    for shard, start in enumerate(range(0, len(real.images), SHARD_SIZE)):
        images = to_bytes(real.images[start : start + SHARD_SIZE]).permute(0, 2, 3, 1).numpy()
        labels = real.labels[start : start + SHARD_SIZE].tolist()
        samples = [Sample(start + i, image, labels[i], {}) for i, image in enumerate(images)]
        write_shard(folder, shard, samples, "benchmark")


# --- the teacher's logits stored ---------------------------------------------------------------------------------


def measure_stored() -> dict[str, Any]:
    """Students with the teacher's logits stored and online, at equal steps: agreement, top-1 and seconds."""
    session = embedded_session(STORED_STEPS)
    real, rows = real_images(session), []
    for seed in STORED_SEEDS:
        for mode in ("online", "stored"):
            recipe = replace(session.config.distillation, stored_logits=mode == "stored")
            start = time.perf_counter()
            student = session.distill(to_bytes(real.images), real.labels, seed, recipe)
            seconds = time.perf_counter() - start
            values = {(row.domain, row.metric): row.value for row in session.evaluate(student, seed)}
            rows.append({"mode": mode, "seed": seed, "seconds": seconds, "agreement": values["id", "agreement"],
                         "top1": values["id", "top1"]})  # fmt: skip
    return {"steps": STORED_STEPS, "rows": rows}


# --- photographs -------------------------------------------------------------------------------------------------


def measure_photos() -> dict[str, Any]:
    """The loop at 224 pixels over a bare one, from a cache of images that were drawn at 512; and the cache's cost."""
    teacher = Classifier(new_network("resnet10t", PHOTO_CLASSES, 3), PHOTO_TEACHER).eval().requires_grad_(False)
    world = World.of(PHOTO_RECIPE, teacher)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "images")
        start = time.perf_counter()
        images, _ = open_images(folder / "images", 0, 0, world.stored_side, CachePlace(folder, 1e9))
        seconds = time.perf_counter() - start
        (cache,) = folder.glob("cache-*.bin")
        measured = {"images": NUM_PHOTOS, "drawn_side": PHOTO_SIDE, "stored_side": world.stored_side,
                    "seen_side": world.side, "cache_bytes": cache.stat().st_size, "cache_seconds": seconds}  # fmt: skip
        return measured | _photo_pairs(teacher, world, TrainingSet(images), folder / "checkpoint.pt")


def write_photos(folder: Path) -> None:
    """Color gradients with noise, which take JPEG about as long as photographs do, in shards."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, PHOTO_SIDE)[:, None, None]
    for shard, start in enumerate(range(0, NUM_PHOTOS, SHARD_SIZE // 4)):
        samples = []
        for index in range(start, min(start + SHARD_SIZE // 4, NUM_PHOTOS)):
            corners = 255 * rng.random((3, 3))
            smooth = corners[0] + (corners[1] - corners[0]) * ramp + (corners[2] - corners[0]) * ramp.transpose(1, 0, 2)
            image = (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
            samples.append(Sample(index, image, index % PHOTO_CLASSES, {}))
        write_shard(folder, shard, samples, "benchmark", Encoding("jpeg", 95))


def _photo_pairs(teacher: Classifier, world: World, data: TrainingSet, checkpoint: Path) -> dict[str, Any]:
    """The bare loop and prismkd's in turns."""
    recipe, pairs = PHOTO_RECIPE, []
    views = list(photo_views_of(world, data, recipe))
    for _ in range(NUM_PHOTO_PAIRS):
        students = [world.trained_form(new_student(recipe, PHOTO_CLASSES, 3, seed=0), PHOTO_CLASSES, 3)
                    for _ in range(2)]  # fmt: skip
        marks = [list[float](), list[float]()]
        train_bare(students[0], teacher, views, recipe, marks[0])
        train(students[1], teacher, data, recipe, 0, checkpoint, partial(_note, marks[1]))
        pairs.append([ends[-1] - ends[0] for ends in marks])
        checkpoint.unlink()
    pairs = pairs[1:]  # the first one warms up
    bare, ours = (min(seconds) for seconds in zip(*pairs, strict=True))
    timed = recipe.num_steps - 1
    return {"ratio": bare / ours, "ratios": [first / second for first, second in pairs], "steps": timed,
            "batch_size": recipe.batch_size, "images_per_cpu_second": timed * recipe.batch_size / ours}  # fmt: skip


def _note(ends: list[float], count: int) -> None:
    ends.append(time.process_time())


def photo_views_of(world: World, data: TrainingSet, recipe: DistillationConfig) -> Iterator[Tensor]:
    """The views of seed 0, as the loop computes them."""
    for step in range(recipe.num_steps):
        generator = torch.Generator().manual_seed(derive(0, "batch", step))
        (images,) = data.batches([data.draw(generator, recipe.batch_size)])
        yield world.views(to_float(images), generator).contiguous(memory_format=torch.channels_last)


MEASURES = {"loop": measure_loop, "stored": measure_stored}


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[*MEASURES, "photos"], action="append", help="default: all")
    path = RESULTS / "distillation.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    for part in parser.parse_args().part or [*MEASURES, "photos"]:
        if part == "photos":
            write_results("photos", "python -m benchmarks.distillation --part photos", (0,), measure_photos())
            continue
        recorded[part] = MEASURES[part]()
        recorded_parts = [name for name in MEASURES if name in recorded]
        command = " ".join(["python -m benchmarks.distillation", *(f"--part {name}" for name in recorded_parts)])
        write_results("distillation", command, STORED_SEEDS if "stored" in recorded else (), recorded)
        print(part, json.dumps(recorded[part]), flush=True)


if __name__ == "__main__":
    main()
