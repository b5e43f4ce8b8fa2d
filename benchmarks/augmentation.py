"""Few real images with and without synthetic ones beside them: does drawing more help who has ten of each class?

Usage: python -m benchmarks.augmentation            the whole of it
       python -m benchmarks.augmentation --norms    auxiliary batch norms, in a few minutes
       python -m benchmarks.publish

Ten real images of each of 24 classes, chosen by the seed, alone; with plain synthetic images; with PRISM's. Every
student does the same steps, and of its batches half are real. Each is trained on the teacher's logits, and on labels
alone, for whoever has no teacher (plain and PRISM images themselves are drawn as always: PRISM's with the teacher).
Every finished cell is a file in ``runs/augmentation-HASH``, the hash being that of all settings; the same command
continues where it was stopped. It writes ``benchmarks/results/augmentation.json``; with ``--norms``, which compares
students with and without batch norms of their own for the plain images, ``benchmarks/results/norms.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, NUM_STEPS, embedded_session, real_images, top1
from benchmarks.pools import draw_in_turn, load_pools, save_pools
from benchmarks.publish import write_results
from prismkd import Session
from prismkd.distillation import TrainingSet, new_student, to_bytes, train

SEEDS = (0, 1, 2)
REAL_PER_CLASS, REAL_SHARE = 10, 0.5
NORMS = ("shared", "auxiliary")
IMAGE_SETS = ("real alone", "real + plain", "real + PRISM")
NORMS_STEPS, NORMS_IMAGES_PER_CLASS = 300, 10
HARD_LABEL_WEIGHTS = {"teacher": 0.0, "labels": 1.0}  # by what the student is taught by


class Measurements:
    """A student of every set of images, teacher or labels, and seed; each is measured once."""

    def __init__(self, session: Session, images_per_class: int = IMAGES_PER_CLASS) -> None:
        self.session, self.images_per_class = session, images_per_class
        self.num_classes = len(session.classes)
        self.cells = Cells(folder_of("augmentation", session, REAL_PER_CLASS, images_per_class, REAL_SHARE))

    def rows(self) -> list[dict[str, Any]]:
        """Each student's top-1 per domain."""
        rows = []
        for seed in SEEDS:
            for images in IMAGE_SETS:
                for taught_by in HARD_LABEL_WEIGHTS:
                    cell = self.cells.get(f"{images} {taught_by} {seed}", partial(self._cell, images, taught_by, seed))
                    rows.append({"images": images, "loss": taught_by, "seed": seed, **cell})
        return rows

    def norms_rows(self) -> list[dict[str, Any]]:
        """Top-1 per domain of students whose plain images have batch norms of their own, and of others.

        The seed is that of the students and of the chosen real images; the plain images are those of seed 0.
        """
        rows = []
        for seed in SEEDS:
            for norms in NORMS:
                cell = partial(self._cell, "real + plain", "teacher", seed, SEEDS[0], auxiliary=norms == "auxiliary")
                rows.append({"norms": norms, "seed": seed, **self.cells.get(f"norms {norms} {seed}", cell)})
        return rows

    def _cell(
        self, images: str, taught_by: str, seed: int, images_seed: int | None = None, *, auxiliary: bool = False
    ) -> dict[str, Any]:
        session, weight = self.session, HARD_LABEL_WEIGHTS[taught_by]
        recipe = replace(session.config.distillation, hard_label_weight=weight, auxiliary_batch_norm=auxiliary)
        data = self.training_set(images, seed, images_seed)
        channels, _, side = data.images.image_shape
        student = new_student(recipe, self.num_classes, channels, seed, side=side)
        log = train(student, session.teacher if taught_by == "teacher" else None, data, recipe, seed)
        return {"top1": top1(session, student, seed), "warnings": log.warnings()}

    def training_set(self, images: str, seed: int, images_seed: int | None = None) -> TrainingSet:
        """The few real images alone, or as a share of every batch beside the synthetic ones."""
        real = self.few_real(seed)
        if images == "real alone":
            return TrainingSet(*real)
        synthetic, labels = self.synthetic(images == "real + PRISM", seed if images_seed is None else images_seed)
        return TrainingSet(synthetic, labels, real, REAL_SHARE)

    def few_real(self, seed: int) -> tuple[Tensor, Tensor]:
        """Ten real images of each class, and their labels."""
        images, labels = self.all_real
        rng = np.random.default_rng(seed)
        chosen = [rng.choice(np.flatnonzero(labels.numpy() == label), REAL_PER_CLASS, replace=False)
                  for label in range(self.num_classes)]  # fmt: skip
        places = torch.from_numpy(np.concatenate(chosen))
        return images[places], labels[places]

    @cached_property
    def all_real(self) -> tuple[Tensor, Tensor]:
        """The teacher's training images and their labels."""
        real = real_images(self.session)
        return to_bytes(real.images), real.labels

    def synthetic(self, prism: bool, seed: int) -> tuple[Tensor, Tensor]:
        """PRISM's or plain images and their labels; drawn once for both kinds of student."""
        method, session = "prism" if prism else "plain", self.session
        path = self.cells.folder / "pools" / f"{method}-{seed}.npz"
        if not path.is_file():
            count = self.images_per_class * self.num_classes
            save_pools(path, draw_in_turn([session.synthesizer(method)], session.plan(method, seed), 0, count))
        (pool,) = load_pools(path)
        return pool.images, pool.labels


def main() -> None:
    """Measure what isn't measured yet, and record everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--norms", action="store_true", help="auxiliary batch norms alone")
    if parser.parse_args().norms:
        rows = Measurements(embedded_session(NORMS_STEPS), NORMS_IMAGES_PER_CLASS).norms_rows()
        sizes = {"real_per_class": REAL_PER_CLASS, "images_per_class": NORMS_IMAGES_PER_CLASS, "num_steps": NORMS_STEPS}
        write_results("norms", "python -m benchmarks.augmentation --norms", SEEDS, {"rows": rows, **sizes})
        return
    measurements = Measurements(embedded_session(NUM_STEPS))
    data = {"rows": measurements.rows(), "real_per_class": REAL_PER_CLASS, "images_per_class": IMAGES_PER_CLASS,
            "num_steps": NUM_STEPS}  # fmt: skip
    write_results("augmentation", "python -m benchmarks.augmentation", SEEDS, data)


if __name__ == "__main__":
    main()
