"""What Energy-guided Distribution Alignment does and where it pays, on Pictograms with plain prompts.

Usage: python -m benchmarks.eda [--part sweep] [--part curve] [--part teachers] [--part survival]
       python -m benchmarks.publish

Every finished cell is a file in ``runs/eda-HASH``, the hash being that of all settings; the same command continues
where it was stopped. Images of one seed share their noise over all arms. At equal seconds, ``more`` and ``filter``
spend what guidance and its calibration would have cost; batches of plain and guided images are drawn in turn, so that
the ratio of seconds is one of the same minutes. Results go to ``benchmarks/results/eda.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.laboratory import Laboratory, labels_of
from benchmarks.pictograms.classifiers import fit
from benchmarks.publish import RESULTS, write_results
from prismkd.assets import asset
from prismkd.classifiers import Classifier, load_classifier, predict, save_classifier
from prismkd.config import GuidanceConfig
from prismkd.data import load_labelled_images
from prismkd.evaluation.images import evaluate_images
from prismkd.guidance import Calibration
from prismkd.guidance.energy import conditional_energy, free_energy
from prismkd.synthesis.survival import gains, survival_test
from prismkd.synthesis.synthesizer import Synthesizer, quantized

SEEDS = (0, 1, 2)
SWEEP_IMAGES, CURVE_IMAGES = 50, (25, 50, 100, 200, 400, 800, 1600)  # per class
CURVE_SEEDS = {1600: (0,)}  # of sizes that not every seed has: 38,400 images and their rivals take half an hour
CHUNK, SURVIVAL_IMAGES, CALIBRATION_PAIR = 1200, 480, 192
DEFAULT = GuidanceConfig()
LATE_ONLY = replace(DEFAULT, log_snr_min=0.2, log_snr_max=3.0)
ARMS: dict[str, GuidanceConfig | None] = {
    "plain": None,
    **{f"strength {s}": replace(DEFAULT, strength=s) for s in (0.2, 0.4, 0.8, 1.2)},
    "every 2nd step": replace(DEFAULT, every=2),
    "late only": LATE_ONLY,
    "free energy": replace(DEFAULT, energy="free"),
    "label only": replace(DEFAULT, energy="conditional"),
    "ascending": replace(DEFAULT, ascend=True),
}
SURVIVAL_ARMS = {
    "default": DEFAULT,
    "late only": LATE_ONLY,
    "no views": replace(DEFAULT, augment=False, num_views=1),
    "late only, no views": replace(LATE_ONLY, augment=False, num_views=1),
}
TEACHERS: dict[str, dict[str, Any]] = {
    "without BatchNorm": {
        "architecture": "convnext_atto", "num_classes": 24, "in_channels": 1, "mean": [0.5], "std": [0.5],
        "arguments": {"patch_size": 2, "depths": [1, 1, 2, 1], "dims": [32, 64, 128, 128]},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """Images of one arm and seed with their labels, and the seconds that they took."""

    images: Tensor
    labels: Tensor
    seconds: float

    def first(self, count: int) -> Pool:
        """The first ``count``, at their share of the seconds."""
        return Pool(self.images[:count], self.labels[:count], self.seconds * count / len(self.images))


class Bench:
    """The measurements; each is a cell that is computed once."""

    def __init__(self, laboratory: Laboratory, folder: Path) -> None:
        self.laboratory, self.folder, self.cells = laboratory, folder, Cells(folder)
        self.num_classes = len(laboratory.classes)
        self.calibrations: dict[tuple[GuidanceConfig | None, int], Calibration] = {}

    def student(self, pool: Pool, seed: int, teacher: Classifier | None = None) -> dict[str, Any]:
        """Top-1 of a student per domain."""
        teacher = teacher or self.laboratory.teacher
        student = self.laboratory.distil(pool.images, seed, teacher)
        return self.laboratory.top1(student, seed, teacher)

    def images(self, pool: Pool, teacher: Classifier | None = None) -> dict[str, Any]:
        """What teacher and judge say of the images, and their precision and recall in the judge's features."""
        teacher = teacher or self.laboratory.teacher
        real = self.laboratory.test.domain("id")
        rows = evaluate_images(pool.images, pool.labels, teacher, self.laboratory.judge, real, 5, "", 0)
        found = {row.metric: row.value for row in rows}
        return {**found, "energy": float(free_energy(predict(teacher, pool.images)).mean())}

    # --- drawing -------------------------------------------------------------------------------------------------

    def synthesizer(self, guidance: GuidanceConfig | None, teacher: Classifier | None = None) -> Synthesizer:
        """A guided one is calibrated first, once."""
        teacher = teacher or self.laboratory.teacher
        key = (guidance, id(teacher))
        if guidance is not None and key not in self.calibrations:
            self.calibrations[key] = self.laboratory.calibration(guidance, teacher)
        return Synthesizer(self.laboratory.generator, teacher, guidance, self.calibrations.get(key))

    def draw(self, synthesizers: list[Synthesizer], seed: int, start: int, stop: int) -> list[Pool]:
        """Images ``start`` to ``stop`` of each, drawn batch by batch in turn."""
        plan, size = self.laboratory.plan(seed), self.laboratory.generator.config.batch_size
        images: list[list[Tensor]] = [[] for _ in synthesizers]
        seconds = [0.0] * len(synthesizers)
        for first in range(start, stop, size):
            prompts = [plan[i] for i in range(first, min(first + size, stop))]
            for number, synthesizer in enumerate(synthesizers):
                begin = time.monotonic()
                images[number].append(quantized(synthesizer.draw(prompts)[0]))
                seconds[number] += time.monotonic() - begin
        labels = labels_of(plan, stop)[start:]
        return [Pool(torch.cat(own), labels, spent) for own, spent in zip(images, seconds, strict=True)]

    def pools(self, seed: int, count: int) -> tuple[Pool, Pool]:
        """``count`` guided images, and of the plain ones as many as ``bought`` says; both at the price of the pairs."""
        both = [self.synthesizer(None), self.synthesizer(DEFAULT)]
        pairs = [self.chunk(both, seed, start) for start in range(0, count, CHUNK)]
        plain, guided = (_join([pair[number] for pair in pairs]) for number in (0, 1))
        rest = range(len(plain.images), self.bought(plain.first(count), guided.first(count)), CHUNK)
        more = _join([plain, *[self.chunk(both[:1], seed, start)[0] for start in rest]])
        return replace(more, seconds=plain.seconds * len(more.images) / len(plain.images)), guided

    def chunk(self, synthesizers: list[Synthesizer], seed: int, start: int) -> list[Pool]:
        """``CHUNK`` images of each, stored; drawn again where fewer synthesizers had drawn before."""
        path = self.folder / "pools" / f"{seed}-{start}.npz"
        if not path.is_file() or len(np.load(path)["seconds"]) < len(synthesizers):
            found = self.draw(synthesizers, seed, start, start + CHUNK)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path.with_suffix(".tmp.npz"), seconds=[pool.seconds for pool in found],
                     labels=found[0].labels.numpy(),
                     images=np.stack([pool.images.mul(255).round().byte().numpy() for pool in found]))  # fmt: skip
            path.with_suffix(".tmp.npz").replace(path)
            print(f"pool {seed} from {start}", flush=True)
        data = np.load(path)
        labels = torch.from_numpy(data["labels"])
        return [Pool(torch.from_numpy(images).float().div(255), labels, float(seconds))
                for images, seconds in zip(data["images"], data["seconds"], strict=True)]  # fmt: skip

    def _arm_cell(self, guidance: GuidanceConfig | None, seed: int, teacher: Classifier) -> dict[str, Any]:
        (pool,) = self.draw([self.synthesizer(guidance, teacher)], seed, 0, SWEEP_IMAGES * self.num_classes)
        return {"top1": self.student(pool, seed, teacher), **self.images(pool, teacher)}

    def _survival_cell(self, guidance: GuidanceConfig) -> dict[str, Any]:
        synthesizer, plan = self.synthesizer(guidance), self.laboratory.plan(0)
        found = survival_test(synthesizer, plan, SURVIVAL_IMAGES, self.laboratory.judge, lambda count: None)
        return {"guided": gains(found), "ascending": gains(found, "ascending")}

    # --- the parts -----------------------------------------------------------------------------------------------

    def sweep(self) -> list[dict[str, Any]]:
        """Every arm at the same number of images."""
        rows = []
        for seed in SEEDS:
            for arm, guidance in ARMS.items():
                compute = partial(self._arm_cell, guidance, seed, self.laboratory.teacher)
                rows.append({"arm": arm, "seed": seed, **self.cells.get(f"sweep {arm} {seed}", compute)})
        return rows

    def curve(self) -> list[dict[str, Any]]:
        """Students over images per class: plain, guided, and at the guided ones' seconds more and filter."""
        rows = []
        for seed in SEEDS:
            sizes = [size for size in CURVE_IMAGES if seed in CURVE_SEEDS.get(size, SEEDS)]
            plain, guided = self.pools(seed, max(sizes) * self.num_classes)
            for size in sizes:
                count = size * self.num_classes
                bought = self.bought(plain.first(count), guided.first(count))
                for arm in ("plain", "guided", "more", "filter"):
                    compute = partial(self._curve_cell, arm, plain, guided, count, bought, seed)
                    cell = self.cells.get(f"curve {arm} {size} {seed}", compute)
                    cost = count if arm == "plain" else bought
                    rows.append(
                        {
                            "arm": arm,
                            "seed": seed,
                            "images_per_class": size,
                            **cell,
                            "cost": cost / self.num_classes,
                            "price": plain.seconds / len(plain.images),
                        }
                    )
        return rows

    def bought(self, plain: Pool, guided: Pool) -> int:
        """How many plain images the seconds of guidance and its calibration would have given."""
        calibration = self.cells.get("calibration", self._calibration_cell)["images"]
        return round(guided.seconds / plain.seconds * len(plain.images) + calibration)

    def _calibration_cell(self) -> dict[str, Any]:
        """The calibration's price in plain images, some of which are drawn before and after it."""
        plain = [self.synthesizer(None)]
        before = self.draw(plain, 0, 0, CALIBRATION_PAIR)[0].seconds
        begin = time.monotonic()
        self.laboratory.calibration(DEFAULT)
        seconds = time.monotonic() - begin
        after = self.draw(plain, 0, 0, CALIBRATION_PAIR)[0].seconds
        return {"seconds": seconds, "images": seconds / (before + after) * 2 * CALIBRATION_PAIR}

    def _curve_cell(
        self, arm: str, plain: Pool, guided: Pool, count: int, bought: int, seed: int
    ) -> dict[str, Any]:  # fmt: skip
        pool = {"plain": plain.first(count), "guided": guided.first(count), "more": plain.first(bought),
                "filter": plain.first(bought)}[arm]  # fmt: skip
        if arm == "filter":
            pool = self.filtered(pool, count)
        return {"top1": self.student(pool, seed), "images": len(pool.images)}

    def filtered(self, pool: Pool, count: int) -> Pool:
        """Of each class the share with the lowest energy under the teacher, at the whole pool's seconds."""
        logits, weight = predict(self.laboratory.teacher, pool.images), DEFAULT.label_weight
        energy = free_energy(logits) + weight * conditional_energy(logits, pool.labels)  # as guidance, without hinge
        kept = []
        for label in range(self.num_classes):
            own = (pool.labels == label).nonzero().flatten()
            kept.append(own[energy[own].argsort()[: count // self.num_classes]])
        index = torch.cat(kept)
        return Pool(pool.images[index], pool.labels[index], pool.seconds)

    def teachers(self) -> list[dict[str, Any]]:
        """Plain and guided with teachers of other kinds."""
        rows = []
        for name, config in TEACHERS.items():
            teacher = self.other_teacher(name, config)
            prototypes = replace(DEFAULT, prototype_weight=1.0)
            arms = {"plain": None, "guided": DEFAULT, "guided, prototypes": prototypes}
            for seed in SEEDS:
                for arm, guidance in arms.items():
                    compute = partial(self._arm_cell, guidance, seed, teacher)
                    cell = self.cells.get(f"teachers {name} {arm} {seed}", compute)
                    rows.append({"teacher": name, "arm": arm, "seed": seed, **cell})
        return rows

    def other_teacher(self, name: str, config: dict[str, Any]) -> Classifier:
        """A teacher trained on the same real icons, kept in the folder."""
        folder = self.folder / "teachers" / name.replace(" ", "-")
        if not (folder / "model.safetensors").is_file():
            real = load_labelled_images(asset("real.parquet"), self.num_classes)
            torch.manual_seed(0)
            save_classifier(folder, fit(config, real.images, real.labels, 1500, 2e-3), config)
        return load_classifier(folder)

    def survival(self) -> list[dict[str, Any]]:
        """The survival test of the default, and of guidance without its safeguards."""
        rows = []
        for arm, guidance in SURVIVAL_ARMS.items():
            compute = partial(self._survival_cell, guidance)
            rows.append({"arm": arm, **self.cells.get(f"survival {arm}", compute)})
        return rows


def _join(pools: list[Pool]) -> Pool:
    return Pool(torch.cat([p.images for p in pools]), torch.cat([p.labels for p in pools]),
                sum(p.seconds for p in pools))  # fmt: skip


def main() -> None:
    """Measure the asked parts and record everything that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("survival", "sweep", "teachers", "curve")
    parser.add_argument("--part", choices=parts, action="append", help="default: all")
    asked = parser.parse_args().part or parts
    laboratory = Laboratory()
    bench = Bench(laboratory, folder_of("eda", laboratory, SWEEP_IMAGES))
    path = RESULTS / "eda.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    for part in asked:
        recorded[part] = getattr(bench, part)()
        write_results("eda", "python -m benchmarks.eda", SEEDS, recorded)


if __name__ == "__main__":
    main()
