"""What limits the student: images per class, steps, labels, width, mixtures, prompts; on all 97 classes of Pictograms.

Usage: python -m benchmarks.limits
       python -m benchmarks.publish

Everything that a row doesn't name is as in ``configs/pictograms.toml``. Beside the accuracy stands what knobs are
chosen by: the fidelity of ``benchmarks.knobs``, how often the student agrees with the teacher on held-out unguided
images that the teacher recognizes. Its seeds are those of the knobs too, and no run's.

Every finished cell is a file in ``runs/limits-HASH``, the hash being that of all settings; the same command continues
where it was stopped. It writes ``benchmarks/results/limits.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import labels_of, plan_with_share, real_images, top1
from benchmarks.fidelity import HELD_OUT_SEED, SEEDS, HeldOut, fidelity, held_out_images
from benchmarks.publish import ROOT
from prismkd import Session
from prismkd.config.load import load_config
from prismkd.distillation import TrainingSet, to_bytes
from prismkd.prompts import PromptPlan
from prismkd.synthesis.synthesizer import Synthesizer

HELD_OUT_IMAGES = 20  # per class and kind


@dataclass(frozen=True)
class Row:
    """A student.

    Attributes:
        method: whose images it learns from, or ``real``.
        per_class: images; 0 for real ones.
        num_steps: of the student.
        weight: of the labels.
        other: what else differs, in words.
        recipe: that, as settings of the distillation.
        id_share: of the prompts; None: the recipe's.
        seeds: that are measured.
    """

    method: str
    per_class: int
    num_steps: int
    weight: float = 0.8
    other: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    id_share: float | None = None
    seeds: tuple[int, ...] = SEEDS[:1]


ROWS = (
    *(Row("prism", 50, 3200, weight, seeds=SEEDS) for weight in (0.3, 0.5, 0.8, 1.0)),
    Row("prism", 150, 3200),
    Row("prism", 50, 9600),
    Row("prism", 150, 9600),
    Row("prism", 150, 9600, 0.5),
    Row("prism", 150, 9600, other="half of the images filled", id_share=0.5),
    Row("prism", 150, 9600, other="CutMix", recipe={"cutmix": 1.0}),
    Row("prism", 150, 9600, other="twice as wide", recipe={"architecture": "small-resnet-32"}),
    Row("dpe", 150, 9600),
    Row("plain", 150, 9600),
    Row("real", 0, 9600),
)


@dataclass(frozen=True)
class Measurements:
    """Every row's students, each measured once."""

    session: Session
    cells: Cells

    def rows(self) -> list[dict[str, Any]]:
        """All students."""
        return [{**shown(row), "seed": seed, **self.cells.get(name_of(row, seed), partial(self._measure, row, seed))}
                for row in ROWS for seed in row.seeds]  # fmt: skip

    def _measure(self, row: Row, seed: int) -> dict[str, Any]:
        session, data = self.session, self._images(row, seed)
        recipe = replace(
            session.config.distillation, num_steps=row.num_steps, hard_label_weight=row.weight, **row.recipe
        )
        student = session.distill(data, seed=seed, recipe=recipe)
        return {"fidelity": fidelity(student, self._held_out), "top1": top1(session, student, seed)}

    def _images(self, row: Row, seed: int) -> TrainingSet:
        if row.method == "real":
            real = real_images(self.session)
            return TrainingSet(to_bytes(real.images), real.labels)
        prompts = replace(self.session.prompts, id_share=row.id_share or self.session.prompts.id_share)
        plan, count = self.session.plan(row.method, seed, prompts), row.per_class * len(self.session.classes)
        return TrainingSet(*self._drawn(self.session.synthesizer(row.method), plan, count))

    def _drawn(self, synthesizer: Synthesizer, plan: PromptPlan, count: int) -> tuple[Tensor, Tensor]:
        return to_bytes(synthesizer.draw_all([plan[i] for i in range(count)])), labels_of(plan, count)

    @cached_property
    def _held_out(self) -> HeldOut:
        plain, count = self.session.synthesizer("plain"), HELD_OUT_IMAGES * len(self.session.classes)
        return held_out_images(
            self.session.teacher,
            lambda id_share: self._drawn(plain, plan_with_share(self.session, HELD_OUT_SEED, id_share), count),
        )


def name_of(row: Row, seed: int) -> str:
    """A cell's."""
    return f"{row.method} {row.per_class} {row.num_steps} {row.weight:g} {row.other} {seed}"


def shown(row: Row) -> dict[str, Any]:
    """What a table says of a row."""
    return {"method": row.method, "per_class": row.per_class, "num_steps": row.num_steps, "weight": row.weight,
            "other": row.other}  # fmt: skip


def measurements() -> Measurements:
    """With the recipe that is published."""
    session = Session(load_config(ROOT / "configs" / "pictograms.toml"))
    return Measurements(session, Cells(folder_of("limits", session)))


def main() -> None:
    """Measure what is missing, and record all."""
    found = measurements()
    found.cells.record("limits", "python -m benchmarks.limits", SEEDS, "rows", found.rows())


if __name__ == "__main__":
    main()
