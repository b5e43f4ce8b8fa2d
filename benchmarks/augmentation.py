"""Few real images with and without synthetic ones beside them: does drawing more help who has ten per class?

Usage: python -m benchmarks.augmentation
       python -m benchmarks.publish

Ten real images per class, chosen by the seed, alone; with plain synthetic images; with PRISM's. Every student does the
same steps, and of its batches half are real. Each is trained on the teacher's logits, and on labels alone, for whoever
has no teacher (plain and PRISM images themselves are drawn as always: PRISM's with the teacher). Every finished cell is
a file in ``runs/augmentation-HASH``, the hash being that of all settings; the same command continues where it was
stopped. Results go to ``benchmarks/results/augmentation.json``.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.laboratory import Laboratory, labels_of
from benchmarks.publish import write_results
from prismkd.assets import asset
from prismkd.data import load_labelled_images
from prismkd.distillation import TrainingSet, new_student, to_bytes, train
from prismkd.synthesis.synthesizer import quantized

SEEDS, NUM_STEPS = (0, 1, 2), 800
REAL_PER_CLASS, IMAGES_PER_CLASS, REAL_SHARE = 10, 50, 0.5
SETS = ("real alone", "real + plain", "real + PRISM")
LOSSES = {"teacher": 0.0, "labels": 1.0}  # hard_label_weight


class Bench:
    """The measurements; each is a cell that is computed once."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.num_classes = len(laboratory.classes)
        self.cells = Cells(folder_of("augmentation", laboratory, REAL_PER_CLASS, IMAGES_PER_CLASS, REAL_SHARE))

    def rows(self) -> list[dict[str, Any]]:
        """Top-1 per domain of every set of images and loss."""
        rows = []
        for seed in SEEDS:
            for images in SETS:
                for loss in LOSSES:
                    cell = self.cells.get(f"{images} {loss} {seed}", partial(self._student, images, loss, seed))
                    rows.append({"images": images, "loss": loss, "seed": seed, **cell})
        return rows

    def _student(self, images: str, loss: str, seed: int) -> dict[str, Any]:
        laboratory = self.laboratory
        recipe = replace(laboratory.recipe, hard_label_weight=LOSSES[loss])
        student = new_student(recipe, self.num_classes, 1, seed)
        teacher = laboratory.teacher if loss == "teacher" else None
        with tempfile.TemporaryDirectory() as folder:
            data = self.training_set(images, seed)
            log = train(student, teacher, data, recipe, seed, Path(folder, "checkpoint.pt"), lambda count: None)
        return {"top1": laboratory.top1(student, seed), "warnings": log.warnings()}

    def training_set(self, images: str, seed: int) -> TrainingSet:
        """The few real images, alone or as a share of every batch."""
        real = self.few_real(seed)
        if images == "real alone":
            return TrainingSet(*real)
        drawn, labels = self.drawn(images == "real + PRISM", seed)
        return TrainingSet(to_bytes(drawn), labels, real, REAL_SHARE)

    def few_real(self, seed: int) -> tuple[Tensor, Tensor]:
        """Ten of each class, and their labels."""
        images, labels = self.all_real
        rng = np.random.default_rng(seed)
        own = [rng.choice(np.flatnonzero(labels.numpy() == label), REAL_PER_CLASS, replace=False)
               for label in range(self.num_classes)]  # fmt: skip
        chosen = torch.from_numpy(np.concatenate(own))
        return images[chosen], labels[chosen]

    @cached_property
    def all_real(self) -> tuple[Tensor, Tensor]:
        found = load_labelled_images(asset("real.parquet"), self.num_classes)
        return to_bytes(found.images), found.labels

    def drawn(self, prism: bool, seed: int) -> tuple[Tensor, Tensor]:
        """Synthetic images with their labels; drawn once for both losses."""
        path = self.cells.folder / "images" / f"{'prism' if prism else 'plain'}-{seed}.npy"
        laboratory = self.laboratory
        plan = laboratory.plan(seed, laboratory.prompts.id_share if prism else None)
        count = IMAGES_PER_CLASS * self.num_classes
        if not path.is_file():
            images = quantized(laboratory.synthesizer(guided=prism).draw_all([plan[i] for i in range(count)]))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".tmp").open("wb") as file:
                np.save(file, to_bytes(images).numpy())
            path.with_suffix(".tmp").replace(path)
        return torch.from_numpy(np.load(path)), labels_of(plan, count)


def main() -> None:
    """Measure and record."""
    bench = Bench(Laboratory(num_steps=NUM_STEPS))
    data = {"rows": bench.rows(), "real_per_class": REAL_PER_CLASS, "images_per_class": IMAGES_PER_CLASS,
            "num_steps": NUM_STEPS}  # fmt: skip
    write_results("augmentation", "python -m benchmarks.augmentation", SEEDS, data)


if __name__ == "__main__":
    main()
