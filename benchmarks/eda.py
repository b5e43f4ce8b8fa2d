"""What Energy-guided Distribution Alignment does and where it pays, on 24 classes of Pictograms with plain prompts.

Usage: python -m benchmarks.eda [--part survival] [--part sweep] [--part teachers] [--part curve]
       python -m benchmarks.publish

Parts: the survival test; a sweep of guidance's settings; teachers of other kinds; and students over the number of
images, beside what the seconds of guidance could have bought instead.
Every finished cell is a file in ``runs/eda-HASH``, the hash being that of all settings; the same command continues
where it was stopped. Images of one seed share their noise over all arms. At equal seconds, ``more`` and ``filter``
spend what guidance and its calibration would have cost. It writes ``benchmarks/results/eda.json``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import GUIDANCE, IMAGES_PER_CLASS, embedded_session, judge_of, top1
from benchmarks.pools import Pool, draw_in_turn, join, load_pools, save_pools
from benchmarks.second_teacher import second_teacher
from prismkd import Session
from prismkd.classifiers import Classifier, predict, weights_digest
from prismkd.config import GuidanceConfig
from prismkd.distillation.training_set import to_float
from prismkd.evaluation.images import evaluate_images
from prismkd.guidance import Calibration
from prismkd.guidance.energy import conditional_energy, free_energy
from prismkd.synthesis.survival import gains, survival_test
from prismkd.synthesis.synthesizer import Synthesizer

SEEDS = (0, 1, 2)
CURVE_IMAGES = (25, 100, 400, 800)  # per class
CURVE_SEEDS = {800: (0,)}  # of sizes that not every seed has: 19,200 images and their rivals take half an hour
CHUNK, SURVIVAL_IMAGES = 1200, 480
CALIBRATION_PAIR = 192  # plain images drawn before the calibration, and again after it, to know its price in images
NEAREST_K = 5  # neighbors in precision, recall, density and coverage
PARTS = ("survival", "sweep", "teachers", "curve")

DEFAULT = GUIDANCE
LATE_ONLY = replace(DEFAULT, log_snr_min=0.2, log_snr_max=3.0)
ARMS: dict[str, GuidanceConfig | None] = {
    "plain": None,
    **{f"strength {s}": replace(DEFAULT, strength=s) for s in sorted({0.4, 0.8, 1.6, DEFAULT.strength})},
    "every 2nd step": replace(DEFAULT, every=2),
    "late only": LATE_ONLY,
    "free energy": replace(DEFAULT, energy="free"),
    "hinge": replace(DEFAULT, energy="hinge"),
    "ascending": replace(DEFAULT, ascend=True),  # the negative control
}
SURVIVAL_ARMS = {
    "default": DEFAULT,
    "late only": LATE_ONLY,
    "no views": replace(DEFAULT, augment=False, num_views=1),
    "late only, no views": replace(LATE_ONLY, augment=False, num_views=1),
}


class Measurements:
    """The parts; each of their cells is measured once."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self.folder, self.cells = session, folder, Cells(folder)
        self.num_classes = len(session.classes)
        self.calibrations: dict[tuple[GuidanceConfig | None, int], Calibration] = {}

    # --- the parts -----------------------------------------------------------------------------------------------

    def survival(self) -> list[dict[str, Any]]:
        """The survival test of the default, and of guidance without its safeguards."""
        rows = []
        for arm, guidance in SURVIVAL_ARMS.items():
            rows.append({"arm": arm, **self.cells.get(f"survival {arm}", partial(self._survival_cell, guidance))})
        return rows

    def sweep(self) -> list[dict[str, Any]]:
        """Every arm at the same number of images."""
        rows = []
        for seed in SEEDS:
            for arm, guidance in ARMS.items():
                measure = partial(self._arm_cell, guidance, seed, self.session.teacher)
                rows.append({"arm": arm, "seed": seed, **self.cells.get(f"arm {arm} {seed}", measure)})
        return rows

    def teachers(self) -> list[dict[str, Any]]:
        """Plain and guided with a teacher of another kind."""
        rows = []
        arms = {"plain": None, "guided": DEFAULT}
        teacher = second_teacher(self.session, self.folder / "teacher-2")
        for seed in SEEDS:
            for arm, guidance in arms.items():
                measure = partial(self._arm_cell, guidance, seed, teacher)
                cell = self.cells.get(f"teacher {weights_digest(teacher)[:8]} {arm} {seed}", measure)
                rows.append({"teacher": "without BatchNorm", "arm": arm, "seed": seed, **cell})
        return rows

    def curve(self) -> list[dict[str, Any]]:
        """Students over images per class: plain, guided, and at the guided ones' seconds more and filter.

        ``cost`` is in plain images per class, ``price`` in seconds per plain image.
        """
        rows = []
        for seed in SEEDS:
            sizes = [size for size in CURVE_IMAGES if seed in CURVE_SEEDS.get(size, SEEDS)]
            plain, guided = self.pools(seed, max(sizes) * self.num_classes)
            price = plain.seconds / len(plain.images)
            for size in sizes:
                count = size * self.num_classes
                bought = self.bought(plain.first(count), guided.first(count))
                for arm in ("plain", "guided", "more", "filter"):
                    measure = partial(self._curve_cell, arm, plain, guided, count, bought, seed)
                    cell = self.cells.get(f"curve {arm} {size} {seed}", measure)
                    cost = (count if arm == "plain" else bought) / self.num_classes
                    row = {"arm": arm, "seed": seed, "images_per_class": size, **cell, "cost": cost, "price": price}
                    rows.append(row)
        return rows

    # --- their cells ---------------------------------------------------------------------------------------------

    def _survival_cell(self, guidance: GuidanceConfig) -> dict[str, Any]:
        synthesizer, plan = self.synthesizer(guidance), self.session.plan("plain", 0)
        rows = survival_test(synthesizer, plan, SURVIVAL_IMAGES, judge_of(self.session), lambda count: None)
        return {"guided": gains(rows), "ascending": gains(rows, "ascending")}

    def _arm_cell(self, guidance: GuidanceConfig | None, seed: int, teacher: Classifier) -> dict[str, Any]:
        (pool,) = self.draw([self.synthesizer(guidance, teacher)], seed, 0, IMAGES_PER_CLASS * self.num_classes)
        return {"top1": self._student(pool, seed, teacher), **self._images(pool, teacher)}

    def _curve_cell(
        self, arm: str, plain: Pool, guided: Pool, count: int, bought: int, seed: int
    ) -> dict[str, Any]:  # fmt: skip
        pools = {"plain": plain.first(count), "guided": guided.first(count), "more": plain.first(bought)}
        pool = self.filtered(plain.first(bought), count) if arm == "filter" else pools[arm]
        return {"top1": self._student(pool, seed), "images": len(pool.images)}

    def _student(self, pool: Pool, seed: int, teacher: Classifier | None = None) -> dict[str, Any]:
        """Top-1 of a student of the pool, per domain."""
        teacher = teacher or self.session.teacher
        student = self.session.distill(pool.images, pool.labels, seed, teacher=teacher)
        return top1(self.session, student, seed, teacher)

    def _images(self, pool: Pool, teacher: Classifier) -> dict[str, Any]:
        """What teacher and judge say of the images, and their precision and recall in the judge's features."""
        real = self.session.test.domain("id")
        images = to_float(pool.images)
        rows = evaluate_images(images, pool.labels, teacher, judge_of(self.session), real, NEAREST_K, "", 0)
        energy = float(free_energy(predict(teacher, images)).mean())
        return {**{row.metric: row.value for row in rows}, "energy": energy}

    # --- drawing -------------------------------------------------------------------------------------------------

    def synthesizer(self, guidance: GuidanceConfig | None, teacher: Classifier | None = None) -> Synthesizer:
        """Without guidance, or with it after its calibration, which is done once."""
        teacher = teacher or self.session.teacher
        key = (guidance, id(teacher))
        if guidance is not None and key not in self.calibrations:
            self.calibrations[key] = self.session.calibrate(guidance, teacher)
        return Synthesizer(self.session.generator, teacher, guidance, self.calibrations.get(key))

    def draw(self, synthesizers: list[Synthesizer], seed: int, start: int, stop: int) -> list[Pool]:
        """Images ``start`` to ``stop`` of the seed's plain prompts by each."""
        return draw_in_turn(synthesizers, self.session.plan("plain", seed), start, stop)

    def pools(self, seed: int, count: int) -> tuple[Pool, Pool]:
        """``count`` guided images, and of the plain ones as many as ``bought`` says; both at the price of the pairs."""
        both = [self.synthesizer(None), self.synthesizer(DEFAULT)]
        pairs = [self._chunk(both, seed, start) for start in range(0, count, CHUNK)]
        plain, guided = (join([pair[number] for pair in pairs]) for number in (0, 1))
        rest = range(len(plain.images), self.bought(plain.first(count), guided.first(count)), CHUNK)
        more = join([plain, *[self._chunk(both[:1], seed, start)[0] for start in rest]])
        # What was drawn alone took seconds of other minutes: only the pairs' say what an image costs.
        return replace(more, seconds=plain.seconds * len(more.images) / len(plain.images)), guided

    def _chunk(self, synthesizers: list[Synthesizer], seed: int, start: int) -> list[Pool]:
        """``CHUNK`` images of each, stored; drawn again where fewer synthesizers had drawn before."""
        path = self.folder / "pools" / f"{seed}-{start}.npz"
        if len(load_pools(path)) < len(synthesizers):
            save_pools(path, self.draw(synthesizers, seed, start, start + CHUNK))
            print(f"pool {seed} from {start}", flush=True)
        return load_pools(path)

    # --- the rivals at equal seconds -----------------------------------------------------------------------------

    def bought(self, plain: Pool, guided: Pool) -> int:
        """How many plain images the seconds of guidance and its calibration would have given."""
        calibration = self.cells.get("calibration", self._calibration_cell)["images"]
        return round(guided.seconds / plain.seconds * len(plain.images) + calibration)

    def _calibration_cell(self) -> dict[str, Any]:
        """The calibration's price in plain images, some of which are drawn before and after it."""
        plain = [self.synthesizer(None)]
        before = self.draw(plain, 0, 0, CALIBRATION_PAIR)[0].seconds
        begin = time.monotonic()
        self.session.calibrate(DEFAULT)
        seconds = time.monotonic() - begin
        after = self.draw(plain, 0, 0, CALIBRATION_PAIR)[0].seconds
        return {"seconds": seconds, "images": seconds / (before + after) * 2 * CALIBRATION_PAIR}

    def filtered(self, pool: Pool, count: int) -> Pool:
        """Of each class the share with the lowest energy under the teacher, at the whole pool's seconds."""
        chunks = pool.images.split(CHUNK)  # as floats not all of them fit into memory
        logits = torch.cat([predict(self.session.teacher, to_float(chunk)) for chunk in chunks])
        weight = DEFAULT.label_weight
        # Free energy and label, as the hinge has them; the hinge itself would make all images under their target equal.
        energy = free_energy(logits) + weight * conditional_energy(logits, pool.labels)
        kept = []
        for label in range(self.num_classes):
            of_class = (pool.labels == label).nonzero().flatten()
            kept.append(of_class[energy[of_class].argsort()[: count // self.num_classes]])
        places = torch.cat(kept)
        return Pool(pool.images[places], pool.labels[places], pool.seconds)


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    chosen = parser.parse_args().part or PARTS
    session = embedded_session()
    measurements = Measurements(session, folder_of("eda", session, IMAGES_PER_CLASS))
    for part in chosen:
        found = getattr(measurements, part)()
        measurements.cells.record("eda", "python -m benchmarks.eda", SEEDS, part, found)


if __name__ == "__main__":
    main()
