"""Beyond the published recipe: labels by agreement, adaptation, rounds and weaker classifier-free guidance.

Usage: python -m benchmarks.beyond [--all-classes] [--workers 16]
       python -m benchmarks.publish

On the 24 classes of ``pictograms-24``, with the settings of the embedded world's recipes; or with the published one on
all 97. Rows of more images and steps stand beside. Images of one seed share their noise over all rows. The adapter is
trained once, by the defaults, on all 97 classes of the same teacher, and serves all seeds.

Images, guides, the adapter and measurements are files in ``runs/beyond-HASH``, the hash being that of all settings; the
same command continues where it was stopped. It writes ``benchmarks/results/beyond.json``, or ``beyond_all.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, NUM_STEPS, SUBSET, judge_of, top1
from benchmarks.pools import Pool, draw_in_turn, join, load_pools, save_pools
from benchmarks.prices import over_repeats, price_of_adapter, price_of_step, prices_of_images, probes_of
from benchmarks.publish import ROOT
from benchmarks.side_by_side import Task, in_processes, work_through
from prismkd import Session
from prismkd.classifiers import save_classifier
from prismkd.config import METHODS, DistillationConfig
from prismkd.config.load import load_config
from prismkd.distillation import TrainingSet
from prismkd.distillation.training_set import to_float
from prismkd.evaluation.images import evaluate_images
from prismkd.generators.lora import Adapter
from prismkd.guidance import Guide
from prismkd.runs.run import Run
from prismkd.synthesis.synthesizer import Synthesizer

SEEDS = (0, 1, 2)
PUBLISHED = ROOT / "configs" / "pictograms.toml"
LAST = 1000  # rank of tasks that shouldn't be disturbed
NEAREST_K = 5  # neighbors in precision, recall, density and coverage


@dataclass(frozen=True)
class Row:
    """What is measured.

    Attributes:
        method: that draws the images.
        per_class: images.
        num_steps: of the student.
        by_agreement: whether each view's label counts as far as the teacher doubts it, in place of 0.8 everywhere.
        guidance_scale: of the generator's classifier-free guidance.
    """

    method: str
    per_class: int
    num_steps: int
    by_agreement: bool = False
    guidance_scale: float = 3.0

    @property
    def images(self) -> str:
        """Which images these are, in names."""
        return self.method if self.guidance_scale == Row.guidance_scale else f"{self.method} at {self.guidance_scale:g}"

    @property
    def name(self) -> str:
        """In cells."""
        return f"{self.images}{' labels' if self.by_agreement else ''} {self.per_class} {self.num_steps}"


def rows_of(per_class: int, num_steps: int) -> list[Row]:
    """What is compared at equal numbers."""
    kinds: list[dict[str, Any]] = [
        {"method": "prism"}, {"method": "prism", "by_agreement": True}, {"method": "adapted"},
        {"method": "prism-rounds"}, {"method": "prism", "guidance_scale": 2.0},
        {"method": "prism", "by_agreement": True, "guidance_scale": 2.0},
    ]  # fmt: skip
    return [Row(per_class=per_class, num_steps=num_steps, **kind) for kind in kinds]


BOTH: dict[str, Any] = {"by_agreement": True, "guidance_scale": 2.0}
ROWS = [
    *rows_of(IMAGES_PER_CLASS, NUM_STEPS), Row("plain", IMAGES_PER_CLASS, NUM_STEPS), Row("plain", 120, 1200),
    Row("prism", 80, 1200), Row("prism", 80, 1200, **BOTH), Row("prism", 120, 1800),
]  # fmt: skip
ROWS_OF_ALL = [
    *rows_of(50, 3200), Row("adapted-prism", 50, 3200), Row("adapted-prism-rounds", 50, 3200, by_agreement=True),
    Row("plain", 250, 9600),  # more than the seconds of PRISM's 150 would buy
    Row("prism", 150, 9600), Row("prism", 150, 9600, by_agreement=True),
    Row("adapted-prism-rounds", 150, 9600, by_agreement=True),
    Row("prism", 150, 9600, by_agreement=True, guidance_scale=2.0),
]  # fmt: skip


@dataclass(frozen=True)
class Measurements:
    """Every part by itself, so that several processes may share the work.

    Attributes:
        rows: that are measured.
        sessions: by the generator's guidance scale, each with a folder for what is decided once.
        cells: where measurements are kept, and images beside them.
        chunk: images per class that are drawn between two savings.
    """

    rows: list[Row]
    sessions: dict[float, Run]
    cells: Cells
    chunk: int

    @property
    def session(self) -> Run:
        """Of the published guidance scale, which decides about all prompts."""
        return self.sessions[Row.guidance_scale]

    # --- images ------------------------------------------------------------------------------------------------------

    def images(self, row: Row, seed: int) -> Pool:
        """A row's images."""
        return join([load_pools(path)[0] for path in self.pools(row, seed)])

    def pools(self, row: Row, seed: int) -> list[Path]:
        """The files of a row's images."""
        return [self.pool(row, seed, start) for start in range(0, row.per_class, self.chunk)]

    def pool(self, row: Row, seed: int, start: int) -> Path:
        """The file of a row's images from turn ``start`` of all classes on."""
        name = row.images
        if METHODS[row.method].in_rounds:  # of which the first one is drawn as without rounds
            in_first = start < self.first_round(row)
            name = name.replace("-rounds", "") if in_first else f"{name} of {row.per_class}"
        return self.cells.folder / "pools" / f"{name} {seed} {start}.npz".replace(" ", "-")

    def first_round(self, row: Row) -> int:
        """Images per class of the first of two rounds, in whole chunks."""
        return row.per_class // 2 // self.chunk * self.chunk

    def draw(self, row: Row, seed: int, start: int) -> None:
        """Make a file of images."""
        count, guided = len(self.session.classes), METHODS[row.method].in_rounds and start >= self.first_round(row)
        synthesizer, plan = self.synthesizer(row, seed, guided=guided), self.session.plan(row.method, seed)
        pools = draw_in_turn([synthesizer], plan, start * count, (start + self.chunk) * count)
        save_pools(self.pool(row, seed, start), pools)

    def synthesizer(self, row: Row, seed: int, *, guided: bool) -> Synthesizer:
        """What draws a row's images, with the guide or without."""
        method = METHODS[row.method]
        base = ("prism" if method.guided else "dpe") if method.diversified else "plain"
        found = self.sessions[row.guidance_scale].synthesizer(base)
        if method.adapted:
            found = replace(found, adapter=Adapter.of(str(self.cells.folder / "adapter")))
        if not guided:
            return found
        student, rounds = self.session.load_student(self.guide(row, seed).parent), self.session.config.rounds
        return replace(found, guide=Guide(student, rounds.guide_term, rounds.guide_weight))

    def decide(self, scale: float) -> None:
        """Senses and contents, once for all, and the targets of a guidance scale."""
        _ = self.session.contents, self.sessions[scale].calibration

    def train_adapter(self) -> None:
        """By the defaults, on all classes."""
        session = self.session if self.session.config.classes == "pictograms" else Session(load_config(PUBLISHED))
        self.cells.get("adapter", lambda: asdict(session.train_adapter(self.cells.folder / "adapter")))

    def guide(self, row: Row, seed: int) -> Path:
        """The file of a row's guide that is written last."""
        return self.cells.folder / "guides" / f"{row.method}-{row.per_class}-{seed}" / "config.json"

    def train_guide(self, row: Row, seed: int) -> None:
        """A student of the first round's images."""
        pool = join([load_pools(self.pool(row, seed, start))[0]
                     for start in range(0, self.first_round(row), self.chunk)])  # fmt: skip
        planned, data = row.per_class * len(self.session.classes), TrainingSet(pool.images, pool.labels)
        student = self.session.train_guide(data, planned, 1, seed, self.recipe(row))
        save_classifier(self.guide(row, seed).parent, student.network, student.config)

    # --- students ----------------------------------------------------------------------------------------------------

    def recipe(self, row: Row) -> DistillationConfig:
        """Of a row's students."""
        recipe = replace(self.session.config.distillation, num_steps=row.num_steps)
        return replace(recipe, weight_by_agreement=True, hard_label_weight=0.0) if row.by_agreement else recipe

    def student(self, row: Row, seed: int) -> dict[str, Any]:
        """A row's student on the test images."""
        pool = self.images(row, seed)
        student = self.session.distill(TrainingSet(pool.images, pool.labels), seed=seed, recipe=self.recipe(row))
        return {"top1": top1(self.session, self.session.on_device(student), seed)}

    def teacher(self) -> dict[str, float]:
        """The teacher's top-1 on the test images, by domain."""
        return self.cells.get("teacher", lambda: top1(self.session, self.session.on_device(self.session.teacher), 0))

    def judged(self, row: Row, seed: int) -> dict[str, Any]:
        """What the judge says of a row's images."""
        pool, session = self.images(row, seed), self.session
        teacher, judge = session.on_device(session.teacher), session.on_device(judge_of(session))
        rows = evaluate_images(to_float(pool.images), pool.labels, teacher, judge, session.test.domain("id"),
                               NEAREST_K, "", 0)  # fmt: skip
        return {found.metric: found.value for found in rows}

    # --- what it costs ------------------------------------------------------------------------------------------------

    def prices(self) -> dict[str, Any]:
        """Seconds of the parts on one thread of a CPU."""
        session, in_rounds, seed = self.session, self.in_rounds, SEEDS[0]
        ways = {name: self.synthesizer(replace(in_rounds, method=name), seed, guided=False)
                for name in ("plain", "dpe", "prism", "adapted", "adapted-prism")}  # fmt: skip
        ways["with a guide"] = self.synthesizer(in_rounds, seed, guided=True)
        images, pool = prices_of_images(session, ways), self.images(in_rounds, seed)
        image, guided_image = over_repeats(images)["dpe"], over_repeats(images)["prism"]
        step = price_of_step(session, TrainingSet(pool.images, pool.labels))
        adapter = price_of_adapter(session, image, guided_image)
        return {"images": images, "step": step, "adapter": adapter, "probes": probes_of(session)}

    @property
    def in_rounds(self) -> Row:
        """The row by whose guide the price of guides is measured."""
        return next(row for row in self.rows if row.method == "prism-rounds")

    def seconds(self, row: Row) -> float:
        """What a row costs: its images and all that are drawn before, its steps and its guide's, and its adapter."""
        prices, method, count = self.cells.found("prices"), METHODS[row.method], len(self.session.classes)
        images = over_repeats(prices["images"])
        before = (
            method.diversified * prices["probes"] + method.guided * self.session.config.guidance.num_calibration_images
        )
        spent = before * images["dpe"] + row.per_class * count * images[row.method.replace("-rounds", "")]
        spent += row.num_steps * prices["step"] + method.adapted * prices["adapter"]
        if method.in_rounds:
            first = self.first_round(row)
            spent += first / row.per_class * row.num_steps * prices["step"]
            spent += (row.per_class - first) * count * (images["with a guide"] - images["prism"])
        return spent

    # --- the work ----------------------------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """All of it; long trainings come first."""
        first = self._decided(Row.guidance_scale)
        found = {first: Task(first, (), 0, partial(self.decide, Row.guidance_scale))}
        for scale in self.sessions.keys() - {Row.guidance_scale}:
            found[self._decided(scale)] = Task(self._decided(scale), (first,), 0, partial(self.decide, scale))
        adapter = self.cells.path("adapter")
        found[adapter] = Task(adapter, (first,), 0, self.train_adapter)
        prices, in_rounds = self.cells.path("prices"), self.in_rounds
        needs = (adapter, self.guide(in_rounds, SEEDS[0]), *self.pools(in_rounds, SEEDS[0]))
        found[prices] = Task(prices, needs, LAST, partial(self.cells.get, "prices", self.prices))
        for row in self.rows:
            for seed in SEEDS:
                pools = tuple(self.pools(row, seed))
                for task in (*self._of_images(row, seed, adapter), *self._of_student(row, seed, pools)):
                    if task.path not in found or task.rank < found[task.path].rank:
                        found[task.path] = task
        return list(found.values())

    def _of_images(self, row: Row, seed: int, adapter: Path) -> Iterator[Task]:
        method, rank = METHODS[row.method], 1 + 1000 / row.num_steps  # what long trainings wait for comes first
        decided, first = self._decided(row.guidance_scale), self.first_round(row)
        needs = (decided, adapter) if method.adapted else (decided,)
        for start in range(0, row.per_class, self.chunk):
            is_guided = method.in_rounds and start >= first
            own = (*needs, self.guide(row, seed)) if is_guided else needs
            path = self.pool(row, seed, start)
            yield Task(path, own, rank - method.in_rounds / 10, partial(self.draw, row, seed, start))
        if method.in_rounds:
            earlier = tuple(self.pool(row, seed, start) for start in range(0, first, self.chunk))
            yield Task(self.guide(row, seed), earlier, rank - 0.2, partial(self.train_guide, row, seed))

    def _of_student(self, row: Row, seed: int, pools: tuple[Path, ...]) -> Iterator[Task]:
        for name, rank, measure in (
            (f"student {row.name} {seed}", 1000 / row.num_steps, self.student),
            (f"judged {row.images} {row.per_class} {seed}", 9, self.judged),
        ):
            work = partial(self.cells.get, name, partial(measure, row, seed))
            yield Task(self.cells.path(name), pools, rank, work)

    def _decided(self, scale: float) -> Path:
        return self.sessions[scale].directory / "calibration.json"

    def results(self) -> list[dict[str, Any]]:
        """What has been measured of every row, at every seed."""
        return [{**vars(row), "seed": seed, "seconds": self.seconds(row),
                 **self.cells.found(f"student {row.name} {seed}"),
                 **self.cells.found(f"judged {row.images} {row.per_class} {seed}")}
                for row in self.rows for seed in SEEDS]  # fmt: skip


def measurements(*, all_classes: bool) -> Measurements:
    """On all classes with the recipe that is published, or on 24 of them with the same settings."""
    config, rows = (load_config(PUBLISHED), ROWS_OF_ALL) if all_classes else (SUBSET, ROWS)
    cells, sessions = Cells(folder_of("beyond", Session(config))), {}
    for scale in {row.guidance_scale for row in rows}:
        generator = replace(config.generator, guidance_scale=scale)
        sessions[scale] = Run(replace(config, generator=generator), directory=cells.folder / f"scale-{scale:g}")
    return Measurements(rows, sessions, cells, 25 if all_classes else 20)


def main() -> None:
    """Measure what is missing, and record all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all-classes", action="store_true")
    parser.add_argument("--workers", type=int, default=0, help="processes; default: this one alone")
    arguments = parser.parse_args()
    found = measurements(all_classes=arguments.all_classes)
    if arguments.workers:
        kind = ["--all-classes"] if arguments.all_classes else []
        in_processes(["-m", "benchmarks.beyond", *kind, "--workers", "0"], arguments.workers)
    else:
        work_through(found.tasks())
    command = "python -m benchmarks.beyond" + (" --all-classes" if arguments.all_classes else "")
    name = "beyond_all" if arguments.all_classes else "beyond"
    parts = {"rows": found.results(), "prices": found.cells.found("prices"), "teacher": found.teacher()}
    for part, measured in parts.items():
        found.cells.record(name, command, SEEDS, part, measured)


if __name__ == "__main__":
    main()
