"""Earlier methods beside PRISM at equal compute, for a teacher with batch norm and for one without.

Usage: python -m benchmarks.rivals [--factor 1] [--factor 3] [--workers 2]
       python -m benchmarks.publish

On the 24 classes of ``pictograms-24``. A method's budget is a multiple of the CPU seconds that PRISM takes for 40
images per class, its probes and calibration included; its images, and a student of its own between rounds, have to be
made within it. Then our student learns from the images in ``600 x factor`` steps, from the teacher's logits alone and
with PRISM's labels, and the better of these and of the rival's own student counts: that is more than PRISM is given.
Every student takes part in the table.

Images and measurements are files in ``runs/rivals-HASH``, the hash being that of all settings; the same command
continues where it was stopped. It writes ``benchmarks/results/rivals.json``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, NUM_STEPS, SUBSET, judge_of, top1
from benchmarks.pools import Pool, draw_in_turn, load_pools, save_pools
from benchmarks.prices import probes_of
from benchmarks.rivals.cmi import Cmi
from benchmarks.rivals.dafl import Dafl
from benchmarks.rivals.deep_inversion import DeepInversion
from benchmarks.rivals.diff_dfkd import DiffDfkd
from benchmarks.rivals.fast import Fast
from benchmarks.rivals.nayer import Nayer
from benchmarks.rivals.noise import SmoothNoise
from benchmarks.rivals.problem import Problem, Rival
from benchmarks.rivals.race import race
from benchmarks.second_teacher import second_teacher
from benchmarks.side_by_side import Task, in_processes, work_through
from prismkd import Session
from prismkd.classifiers import Classifier, load_classifier, save_classifier
from prismkd.distillation import TrainingSet
from prismkd.distillation.training_set import to_float
from prismkd.evaluation.images import evaluate_images
from prismkd.synthesis.synthesizer import Synthesizer

SEEDS = (0, 1, 2)
FACTORS = (1, 3, 10)
TEACHERS = ("with batch norm", "without batch norm")
DRAWN = ("plain", "prism")  # our own methods
MADE: dict[str, Callable[[Session], Rival]] = {
    "noise": lambda session: SmoothNoise(),
    "deep-inversion": lambda session: DeepInversion(),
    "cmi": lambda session: Cmi(),
    "dafl": lambda session: Dafl(),
    "fast": lambda session: Fast(),
    "nayer": lambda session: Nayer(),
    "diff-dfkd": lambda session: DiffDfkd(session.generator, session.plan("plain", 0)),
}
LABELS = {"logits": 0.0, "labels": SUBSET.distillation.hard_label_weight}  # weight of the labels, by protocol
MAX_IMAGES = 20_000  # that a student learns from: 10,000 of a rival that makes more are as good as all
JUDGED = IMAGES_PER_CLASS * 24  # images of every method: what precision and recall are depends on their number
NEAREST_K = 5  # neighbors in precision, recall, density and coverage


@dataclass(frozen=True)
class Measurements:
    """Every part by itself, so that several processes may share the work."""

    session: Session
    cells: Cells
    factors: tuple[int, ...]

    # --- the problem -------------------------------------------------------------------------------------------------

    @cached_property
    def teachers(self) -> dict[str, Classifier]:
        """By name."""
        second = second_teacher(self.session, self.cells.folder / "teacher-2")
        return dict(zip(TEACHERS, (self.session.teacher, second), strict=True))

    def problem(self, teacher: str) -> Problem:
        """For rivals."""
        session = self.session
        channels, side, _ = session.test.images.shape[1:]

        def new_student(seed: int) -> Classifier:
            network = session.new_student(channels, seed, side)
            return Classifier(network, session.student_config(channels, side))

        return Problem(
            self.teachers[teacher].eval().requires_grad_(False), tuple(item.name for item in session.classes),
            (channels, side, side), new_student, session.generator.text_features,
        )  # fmt: skip

    def synthesizer(self, teacher: str, method: str) -> Synthesizer:
        """For our own methods."""
        session, network = self.session, self.teachers[teacher]
        if method == "plain":
            return Synthesizer(session.generator, network)
        guidance = session.config.guidance
        guided = Synthesizer(session.generator, network, guidance, session.calibrate(guidance, network))
        return replace(guided, guided_styles=session.synthesizer("prism").guided_styles)

    # --- images ------------------------------------------------------------------------------------------------------

    def price(self, teacher: str) -> dict[str, float]:
        """CPU seconds of an image of our own methods, and of PRISM's 40 per class with all that comes before."""
        plan, prompts = self.session.plan("prism", 0), range(96)
        seconds = {}
        for method in DRAWN:
            synthesizer = self.synthesizer(teacher, method)
            begun = time.process_time()
            synthesizer.draw_all([plan[i] for i in prompts])
            seconds[method] = (time.process_time() - begun) / len(prompts)
        before = (probes_of(self.session) + self.session.config.guidance.num_calibration_images) * seconds["plain"]
        return {**seconds, "budget": before + seconds["prism"] * IMAGES_PER_CLASS * len(self.session.classes)}

    def pool_path(self, teacher: str, method: str, factor: int, seed: int) -> Path:
        """The file of a method's images."""
        return self.cells.folder / "pools" / f"{teacher} {method} {factor} {seed}.npz".replace(" ", "-")

    def images(self, teacher: str, method: str, factor: int, seed: int) -> dict[str, Any]:
        """Make a method's images, within its budget."""
        path, budget = self.pool_path(teacher, method, factor, seed), factor * self.budget(teacher)
        if method in DRAWN:
            price, count = self.cells.found(f"price {teacher}"), len(self.session.classes)
            per_class = round((IMAGES_PER_CLASS * factor) if method == "prism" else budget / price["plain"] / count)
            plan = self.session.plan(method, seed)
            (pool,) = draw_in_turn([self.synthesizer(teacher, method)], plan, 0, per_class * count)
            save_pools(path, [pool])
            return {"num_images": len(pool.images)}
        found = race(MADE[method](self.session), self.problem(teacher), budget, seed)
        own = found.student
        if isinstance(own, Classifier):
            save_classifier(self.student_path(path), own.network, own.config)
        chosen = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(0))[:MAX_IMAGES]
        save_pools(path, [Pool(found.images[chosen], found.labels[chosen], found.seconds)])
        return {"num_images": len(found.images), "rounds": found.num_rounds, "teacher_passes": found.teacher_passes,
                "seconds": found.seconds}  # fmt: skip

    def student_path(self, pool: Path) -> Path:
        """The folder of a rival's own student."""
        return pool.with_suffix(".student")

    def budget(self, teacher: str) -> float:
        """CPU seconds at 1x."""
        return self.cells.found(f"price {teacher}")["budget"]

    # --- what they are worth -----------------------------------------------------------------------------------------

    def student(self, protocol: str, teacher: str, method: str, factor: int, seed: int) -> dict[str, Any]:
        """Top-1 of a student: ours, or the rival's own."""
        path, network = self.pool_path(teacher, method, factor, seed), self.teachers[teacher]
        if protocol == "own":
            folder = self.student_path(path)
            there = (folder / "config.json").is_file()
            return {"top1": top1(self.session, load_classifier(folder), seed, network) if there else None}
        (pool,) = load_pools(path)
        recipe = replace(
            self.session.config.distillation, num_steps=NUM_STEPS * factor, hard_label_weight=LABELS[protocol]
        )
        student = self.session.distill(TrainingSet(pool.images, pool.labels), seed=seed, recipe=recipe, teacher=network)
        return {"top1": top1(self.session, student, seed, network)}

    def judged(self, teacher: str, method: str, factor: int, seed: int) -> dict[str, Any]:
        """What teacher and judge say of the images."""
        (pool,) = load_pools(self.pool_path(teacher, method, factor, seed))
        pool, session = pool.first(min(len(pool.images), JUDGED)), self.session
        rows = evaluate_images(to_float(pool.images), pool.labels, self.teachers[teacher], judge_of(session),
                               session.test.domain("id"), NEAREST_K, "", 0)  # fmt: skip
        return {found.metric: found.value for found in rows}

    # --- the work ----------------------------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """All of it; prices come first, and alone."""
        found = []
        for teacher in TEACHERS:
            price = self.cells.path(f"price {teacher}")
            work = partial(self.cells.get, f"price {teacher}", partial(self.price, teacher))
            found.append(Task(price, (), 0, work))
            for factor, seed in ((factor, seed) for factor in self.factors for seed in SEEDS):
                for method in (*DRAWN, *MADE):
                    found += self._of_method(price, (teacher, method, factor, seed))
        return found

    def _of_method(self, price: Path, row: tuple[str, str, int, int]) -> list[Task]:
        name, rank = " ".join(map(str, row)), row[2] + row[3] / 10
        made = self.cells.path(f"images {name}")
        work = partial(self.cells.get, f"images {name}", partial(self.images, *row))
        found = [Task(made, (price,), rank, work)]
        protocols = ("labels",) if row[1] in DRAWN else (*LABELS, "own")
        measures: dict[str, Callable[..., dict[str, Any]]] = {
            "judged": self.judged,
            **{f"student {protocol}": partial(self.student, protocol) for protocol in protocols},
        }
        for what, measure in measures.items():
            work = partial(self.cells.get, f"{what} {name}", partial(measure, *row))
            found.append(Task(self.cells.path(f"{what} {name}"), (made,), rank, work))
        return found

    def rows(self) -> list[dict[str, Any]]:
        """All that is measured."""
        rows = []
        for teacher, factor, method, seed in (
            (teacher, factor, method, seed)
            for teacher in TEACHERS for factor in self.factors for method in (*DRAWN, *MADE) for seed in SEEDS
        ):  # fmt: skip
            name = f"{teacher} {method} {factor} {seed}"
            students = {protocol: self.cells.found(f"student {protocol} {name}")["top1"]
                        for protocol in (*LABELS, "own") if self.cells.has(f"student {protocol} {name}")}  # fmt: skip
            rows.append({"teacher": teacher, "method": method, "factor": factor, "seed": seed,
                         "budget": factor * self.budget(teacher), "students": students,
                         **self.cells.found(f"images {name}"), **self.cells.found(f"judged {name}")})  # fmt: skip
        return rows


def main() -> None:
    """Measure what is missing, and record all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factor", type=int, choices=FACTORS, action="append", help="default: all")
    parser.add_argument("--workers", type=int, default=0, help="processes; default: this one alone")
    given = parser.parse_args()
    session = Session(SUBSET)
    found = Measurements(session, Cells(folder_of("rivals", session)), tuple(given.factor or FACTORS))
    if given.workers:
        chosen = [word for factor in found.factors for word in ("--factor", str(factor))]
        in_processes(["-m", "benchmarks.rivals", *chosen], given.workers)
    else:
        work_through(found.tasks())
    found.cells.record("rivals", "python -m benchmarks.rivals", SEEDS, "rows", found.rows())


if __name__ == "__main__":
    main()
