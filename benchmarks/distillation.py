"""What the training loop costs beside forward and backward, and what the fast mode costs in agreement.

Usage: python -m benchmarks.distillation [--part loop] [--part stored]
       python -m benchmarks.publish

The bare loop does the teacher's forward, the student's forward, backward and the optimizer's step, on the very views
that prismkd's loop computes, made beforehand; prismkd's starts, keeps checkpoints and looks for lost classes at the
end, which is a fixed cost. Both take turns, and the fastest of each are compared: whatever else a machine does only
adds to the others. Every figure is a ratio within one run on one machine.
It writes ``benchmarks/results/distillation.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.embedded import embedded_session
from benchmarks.publish import RESULTS, write_results
from prismkd import Session
from prismkd.assets import asset
from prismkd.classifiers import Classifier
from prismkd.classifiers.precision import fast_matmul
from prismkd.classifiers.views import random_views
from prismkd.config import DistillationConfig
from prismkd.config.seeds import derive
from prismkd.data import LabeledImages, load_labeled_images
from prismkd.distillation import TrainingSet, new_student, open_images, to_bytes, train
from prismkd.distillation.losses import distillation_loss
from prismkd.distillation.training_set import to_float
from prismkd.evaluation.students import evaluate_student
from prismkd.shards import Sample, write_shard

NUM_PAIRS, NUM_STEPS, SHARD_SIZE = 5, 160, 480
STORED_STEPS, STORED_SEEDS = 400, (0, 1, 2)
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
        students = [new_student(recipe, num_classes, 1, seed=0) for _ in range(2)]
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


def train_bare(student: nn.Module, teacher: Classifier, views: list[Tensor], recipe: DistillationConfig) -> None:
    """Forward and backward, and nothing else."""
    student.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    for batch in views:
        with fast_matmul(batch.device):  # as the loop computes, or the ratio would be one of precisions
            with torch.no_grad():
                teacher_logits = teacher(batch)
            student_logits = student(batch)
        loss = distillation_loss(student_logits.float(), teacher_logits.float(), recipe.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def real_images(session: Session) -> LabeledImages:
    """The embedded world's real images: for these figures any would do."""
    return load_labeled_images(asset("real.parquet"), len(session.classes))


def write_shards(folder: str, real: LabeledImages) -> None:
    """Images as a data set in shards."""
    for shard, start in enumerate(range(0, len(real.images), SHARD_SIZE)):
        images = to_bytes(real.images[start : start + SHARD_SIZE])[:, 0].numpy()
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
            student = new_student(recipe, len(session.classes), 1, seed)
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                data = TrainingSet(to_bytes(real.images), real.labels)
                train(student, session.teacher, data, recipe, seed, Path(folder, "c.pt"), lambda count: None)
            seconds = time.perf_counter() - start
            evaluated = evaluate_student(student, session.teacher, session.test, mode, seed).rows
            values = {(row.domain, row.metric): row.value for row in evaluated}
            rows.append({"mode": mode, "seed": seed, "seconds": seconds, "agreement": values["id", "agreement"],
                         "top1": values["id", "top1"]})  # fmt: skip
    return {"steps": STORED_STEPS, "rows": rows}


MEASURES = {"loop": measure_loop, "stored": measure_stored}


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=MEASURES, action="append", help="default: all")
    path = RESULTS / "distillation.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    for part in parser.parse_args().part or MEASURES:
        recorded[part] = MEASURES[part]()
        recorded_parts = [name for name in MEASURES if name in recorded]
        command = " ".join(["python -m benchmarks.distillation", *(f"--part {name}" for name in recorded_parts)])
        write_results("distillation", command, STORED_SEEDS if "stored" in recorded else (), recorded)
        print(part, json.dumps(recorded[part]), flush=True)


if __name__ == "__main__":
    main()
