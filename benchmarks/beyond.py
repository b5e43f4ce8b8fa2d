"""Beyond the published recipe: labels by agreement, adaptation, rounds and weaker classifier-free guidance.

Usage: python -m benchmarks.beyond [--seed 0] [--seed 1] ...
       python -m benchmarks.publish

On the 24 classes of ``pictograms-24``, with the settings of the embedded world's recipes. Images of one seed share
their noise over all rows. The adapter is trained once, by the defaults, on all 97 classes of the same teacher, and
serves all seeds.

Images, guides, the adapter and measurements are files in ``runs/beyond-HASH``, the hash being that of all settings; the
same command continues where it was stopped, and several processes may measure a seed each. When every seed is measured
it writes ``benchmarks/results/beyond.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, NUM_STEPS, SUBSET, embedded_session, judge_of, top1
from benchmarks.pools import Pool, draw_in_turn, join, load_pools, save_pools
from prismkd import Config, Session
from prismkd.classifiers import save_classifier
from prismkd.config import METHODS, DistillationConfig
from prismkd.distillation import TrainingSet
from prismkd.distillation.training_set import to_float
from prismkd.evaluation.images import evaluate_images
from prismkd.generators.lora import Adapter
from prismkd.guidance import Guide
from prismkd.synthesis.synthesizer import Synthesizer

SEEDS = (0, 1, 2)
CHUNK = 20  # images per class that are drawn between two savings
NEAREST_K = 5  # neighbors in precision, recall, density and coverage


@dataclass(frozen=True)
class Row:
    """What is measured.

    Attributes:
        method: that draws the images.
        by_agreement: whether each view's label counts as far as the teacher doubts it, in place of 0.8 everywhere.
        per_class: images.
        num_steps: of the student.
        guidance_scale: of the generator's classifier-free guidance.
    """

    method: str
    by_agreement: bool
    per_class: int
    num_steps: int
    guidance_scale: float = 3.0

    @property
    def images(self) -> str:
        """Which images these are, in names."""
        return self.method if self.guidance_scale == Row.guidance_scale else f"{self.method} at {self.guidance_scale:g}"

    @property
    def name(self) -> str:
        """In cells."""
        return f"{self.images}{' labels' if self.by_agreement else ''} {self.per_class} {self.num_steps}"


ROWS = [
    Row("prism", False, IMAGES_PER_CLASS, NUM_STEPS),
    Row("prism", True, IMAGES_PER_CLASS, NUM_STEPS),
    Row("adapted", False, IMAGES_PER_CLASS, NUM_STEPS),
    Row("prism-rounds", False, IMAGES_PER_CLASS, NUM_STEPS),
    Row("prism", False, IMAGES_PER_CLASS, NUM_STEPS, guidance_scale=2.0),
    Row("prism", True, IMAGES_PER_CLASS, NUM_STEPS, guidance_scale=2.0),
]


@dataclass(frozen=True)
class Measurements:
    """Every part by itself, so that several processes may share the work.

    Attributes:
        sessions: by the generator's guidance scale.
        cells: where measurements are kept, and images beside them.
    """

    sessions: dict[float, Session]
    cells: Cells

    @property
    def session(self) -> Session:
        """Of the published recipe."""
        return self.sessions[Row.guidance_scale]

    # --- images ------------------------------------------------------------------------------------------------------

    def images(self, row: Row, seed: int) -> Pool:
        """A row's images."""
        return join([self.chunk(row, seed, start) for start in range(0, row.per_class, CHUNK)])

    def chunk(self, row: Row, seed: int, start: int) -> Pool:
        """A row's images of some turns of all classes, from turn ``start`` on."""
        name, number = row.images, 0
        if METHODS[row.method].in_rounds:
            number = int(start >= self.first_round(row))  # of two rounds
            name = f"{name} of {row.per_class}" if number else name.replace("-rounds", "")
        name = f"{name} {seed} {start}"
        path = self.cells.folder / "pools" / f"{name.replace(' ', '-')}.npz"
        if not path.is_file():
            count, synthesizer = len(self.session.classes), self.synthesizer(row, seed, number)
            plan = self.session.plan(row.method, seed)
            save_pools(path, draw_in_turn([synthesizer], plan, start * count, (start + CHUNK) * count))
            print(name, flush=True)
        (pool,) = load_pools(path)
        return pool

    def first_round(self, row: Row) -> int:
        """Images per class of the first of two rounds, in whole chunks."""
        return row.per_class // 2 // CHUNK * CHUNK

    def synthesizer(self, row: Row, seed: int, number: int) -> Synthesizer:
        """What draws a row's images behind a number of rounds."""
        method = METHODS[row.method]
        base = ("prism" if method.guided else "dpe") if method.diversified else "plain"
        found = self.sessions[row.guidance_scale].synthesizer(base)
        if method.adapted:
            found = replace(found, adapter=Adapter.of(str(self.adapter)))
        return replace(found, guide=self.guide(row, seed)) if number else found

    @cached_property
    def adapter(self) -> Path:
        """The folder of the adapter."""
        folder = self.cells.folder / "adapter"
        self.cells.get("adapter", lambda: asdict(embedded_session(config=Config()).train_adapter(folder)))
        return folder

    def guide(self, row: Row, seed: int) -> Guide:
        """A student of the first round's images."""
        folder = self.cells.folder / "guides" / f"{row.method}-{row.per_class}-{seed}"
        if not (folder / "config.json").is_file():
            pool = join([self.chunk(row, seed, start) for start in range(0, self.first_round(row), CHUNK)])
            planned = row.per_class * len(self.session.classes)
            recipe, data = self.recipe(row), TrainingSet(pool.images, pool.labels)
            student = self.session.train_guide(data, planned, 1, seed, recipe)
            save_classifier(folder, student.network, student.config)
        rounds = self.session.config.rounds
        return Guide(self.session.load_student(folder), rounds.guide_term, rounds.guide_weight)

    # --- students ----------------------------------------------------------------------------------------------------

    def recipe(self, row: Row) -> DistillationConfig:
        """Of a row's students."""
        recipe = replace(self.session.config.distillation, num_steps=row.num_steps)
        return replace(recipe, weight_by_agreement=True, hard_label_weight=0.0) if row.by_agreement else recipe

    def student(self, row: Row, seed: int) -> dict[str, Any]:
        """A row's student on the test images."""
        return self.cells.get(f"student {row.name} {seed}", partial(self._student, row, seed))

    def _student(self, row: Row, seed: int) -> dict[str, Any]:
        pool = self.images(row, seed)
        student = self.session.distill(TrainingSet(pool.images, pool.labels), seed=seed, recipe=self.recipe(row))
        return {"top1": top1(self.session, student, seed)}

    def judged(self, row: Row, seed: int) -> dict[str, Any]:
        """What the judge says of a row's images."""
        name = f"judged {row.images} {row.per_class} {seed}"
        return self.cells.get(name, partial(self._judged, row, seed))

    def _judged(self, row: Row, seed: int) -> dict[str, Any]:
        pool, session = self.images(row, seed), self.session
        rows = evaluate_images(to_float(pool.images), pool.labels, session.teacher, judge_of(session),
                               session.test.domain("id"), NEAREST_K, "", 0)  # fmt: skip
        return {found.metric: found.value for found in rows}

    def rows(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """All of them, at these seeds."""
        return [{**vars(row), "seed": seed, **self.student(row, seed), **self.judged(row, seed)}
                for seed in seeds for row in ROWS]  # fmt: skip


def measurements() -> Measurements:
    """With the settings of the embedded world's recipes."""
    generators = [replace(SUBSET.generator, guidance_scale=scale) for scale in {row.guidance_scale for row in ROWS}]
    sessions = {generator.guidance_scale: embedded_session(config=replace(SUBSET, generator=generator))
                for generator in generators}  # fmt: skip
    first = sessions[Row.guidance_scale]
    for session in sessions.values():  # what is drawn is the same, with other strength
        session.__dict__.update(senses=first.senses, contents=first.contents)
    return Measurements(sessions, Cells(folder_of("beyond", first)))


def main() -> None:
    """Measure the seeds that are asked for; where those are all of them, record the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="default: all")
    seeds, found = parser.parse_args().seed or SEEDS, measurements()
    rows = found.rows(seeds)
    if len(seeds) == len(SEEDS):
        found.cells.record("beyond", "python -m benchmarks.beyond", SEEDS, "rows", rows)


if __name__ == "__main__":
    main()
