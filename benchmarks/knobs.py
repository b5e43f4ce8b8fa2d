"""Where the knobs of guidance, style and student sit, by what the teacher says; no real or test image is read.

Usage: python -m benchmarks.knobs [--part guidance] [--part energy] [--part student]
       python -m benchmarks.publish          (puts the tables into docs/pictograms.md)

Parts: ``guidance``, its strength, the noisiest step that it edits (``log_snr_min``) and the share of the teacher's own
domain, on 24 classes; ``energy``, which one guides, on the same with the student's labels; and ``student``, its number
of steps, images per class and hard-label weight, on all 97, which need more of each. Every knob is varied alone, the
others where ``CENTERS`` has them, with PRISM's images; images of one seed share their noise over all settings. Guidance
and student are second passes. The first one of the guidance, around strength 0.8 and -1.2, chose -2.2; that of the
student, around 1600 steps, 50 images and no labels, chose 3200, 100 and 0.5.

The measure is the fidelity of a student: how often it agrees with the teacher on held-out unguided images that the
teacher assigns to the prompted class, half of plain prompts, half of every style in equal parts. For the guidance four
figures stand beside it that decide nothing: the teacher's agreement with the prompted class, on the images and on harsh
views of them (what vanishes there was an adversarial pattern); the mean free energy; and Vendi per class in the
teacher's features.

The rule, stated before anything was measured: each knob stands where the fidelity is highest. Values within one
standard error of the highest are a tie, of which the cheapest is taken, the first of them in ``PARTS``: fewer steps,
fewer images, weaker guidance at fewer steps, no labels; of the share, which costs nothing, the first world's. Energies
cost the same. That the label alone comes first was decided when a trial of two seeds had shown its images to be of
their class more often, and more varied, at the same fidelity.

Every finished cell is a file in ``runs/PART_knobs-HASH``, the hash being that of all settings; the same command
continues where it was stopped. It writes ``benchmarks/results/PART_knobs.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, NUM_STEPS, embedded_session, plan_with_share
from benchmarks.fidelity import HELD_OUT_SEED, SEEDS, HeldOut, fidelity, held_out_images
from benchmarks.pools import Pool, draw_in_turn, join, load_pools, save_pools
from benchmarks.publish import write_results
from benchmarks.tables import as_text
from prismkd import Config, Session
from prismkd.classifiers import predict
from prismkd.classifiers.views import random_views
from prismkd.distillation import TrainingSet
from prismkd.distillation.training_set import to_float
from prismkd.guidance.energy import free_energy
from prismkd.metrics import vendi_score
from prismkd.synthesis.synthesizer import Synthesizer

Values = dict[str, Any]  # of every knob, most of them numbers

# Of each knob the values that are tried, the cheapest first.
PARTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "guidance": {
        "strength": (0.4, 0.8, 1.6),
        "log_snr_min": (-0.6, -1.2, -2.2, -3.2),  # sigma up to 0.65, 0.77, 0.9 and 0.96
        "id_share": (0.25, 0.0, 0.5),
    },
    "energy": {"energy": ("conditional", "hinge", "joint")},
    "student": {
        "num_steps": (1600, 3200),
        "images_per_class": (50, 100),
        "hard_label_weight": (0.5, 0.8, 1.0),
    },
}
CHOSEN = {"strength": 0.8, "log_snr_min": -2.2, "id_share": 0.25}  # of the guidance
CENTERS: dict[str, Values] = {
    "guidance": {**CHOSEN, "hard_label_weight": 0.0, "num_steps": NUM_STEPS, "images_per_class": IMAGES_PER_CLASS},
    "energy": {
        **CHOSEN,
        "energy": "conditional",
        "hard_label_weight": 0.8,
        "num_steps": 1200,
        "images_per_class": IMAGES_PER_CLASS,
    },
    "student": {**CHOSEN, "hard_label_weight": 0.5, "num_steps": 3200, "images_per_class": 100},
}
UNTUNED = Config(classes="pictograms-24")  # as if nothing were chosen
CONFIGS = {"guidance": UNTUNED, "energy": UNTUNED, "student": Config()}
HELD_OUT_IMAGES = {"guidance": 40, "energy": 40, "student": 20}  # per class, of either kind of prompt
CHUNK = 1200  # images that are drawn between two savings


@dataclass
class Part:
    """A part's settings, each measured once per seed.

    Attributes:
        name: of the part.
        session: of its classes.
        cells: where measurements are kept, and images beside them.
    """

    name: str
    session: Session
    cells: Cells

    def rows(self) -> list[dict[str, Any]]:
        """Every knob's values, by seed; the center of all knobs is measured once."""
        rows = []
        for knob, tried in PARTS[self.name].items():
            for value in tried:
                values = {**CENTERS[self.name], knob: value}
                for seed in SEEDS:
                    name = " ".join([self.name, *(f"{key} {as_text(values[key])}" for key in values), str(seed)])
                    cell = self.cells.get(name, partial(self._cell, values, seed))
                    rows.append({"knob": knob, "value": value, "seed": seed, **cell})
        return rows

    def _cell(self, values: Values, seed: int) -> dict[str, Any]:
        count = round(values["images_per_class"]) * len(self.session.classes)
        pool = self._pool(values, seed).first(count)
        beside = {} if self.name == "student" else self._teacher_side(pool)
        return {"fidelity": self._fidelity(pool, values, seed), **beside}

    def _fidelity(self, pool: Pool, values: Values, seed: int) -> float:
        """Distill a student from the images and compare it with the teacher on the held-out images."""
        recipe = replace(self.session.config.distillation, num_steps=round(values["num_steps"]),
                         hard_label_weight=values["hard_label_weight"])  # fmt: skip
        student = self.session.distill(TrainingSet(pool.images, pool.labels), seed=seed, recipe=recipe)
        return fidelity(student, self._held_out)

    def _teacher_side(self, pool: Pool) -> dict[str, float]:
        teacher, images, labels = self.session.teacher, to_float(pool.images), pool.labels
        logits = predict(teacher, images)
        views = random_views(images, noise=0.1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = teacher.features(images)
        return {
            "agreement": agreement(logits, labels),
            "agreement_harsh": agreement(predict(teacher, views), labels),
            "energy": float(free_energy(logits).mean()),
            "vendi": mean(vendi_score(features[labels == k].numpy()) for k in range(teacher.num_classes)),
        }

    # --- images ------------------------------------------------------------------------------------------------------

    @cached_property
    def _held_out(self) -> HeldOut:
        count = HELD_OUT_IMAGES[self.name] * len(self.session.classes)

        def draw(id_share: float | None) -> tuple[Tensor, Tensor]:
            pool = self._drawn(f"held-out-{id_share}", {}, id_share, HELD_OUT_SEED, count)
            return pool.images, pool.labels

        return held_out_images(self.session.teacher, draw)

    def _pool(self, values: Values, seed: int) -> Pool:
        """PRISM's images of a setting, as many as any setting with the same guidance takes."""
        tried = PARTS[self.name].get("images_per_class", (CENTERS[self.name]["images_per_class"],))
        names = [name for name in ("strength", "log_snr_min", "energy") if name in values]
        guidance: dict[str, Any] = {name: values[name] for name in names}
        name = "-".join(as_text(value) for value in (*guidance.values(), values["id_share"], seed))
        count = round(max(tried)) * len(self.session.classes)
        return self._drawn(name, guidance, values["id_share"], seed, count)

    def _drawn(self, name: str, guidance: dict[str, Any], id_share: float | None, seed: int, count: int) -> Pool:
        """Images with their labels, stored in chunks; unguided without ``guidance``, plain prompts without a share."""
        starts = range(0, count, CHUNK)
        paths = [self.cells.folder / "pools" / f"{self.name}-{name}-{start}.npz" for start in starts]
        if missing := [(start, path) for start, path in zip(starts, paths, strict=True) if not path.is_file()]:
            synthesizer, plan = self._synthesizer(guidance), plan_with_share(self.session, seed, id_share)
            for start, path in missing:
                save_pools(path, draw_in_turn([synthesizer], plan, start, min(start + CHUNK, count)))
                print(path.stem, flush=True)
        return join([pool for path in paths for pool in load_pools(path)])

    def _synthesizer(self, changes: dict[str, Any]) -> Synthesizer:
        session = self.session
        if not changes:
            return Synthesizer(session.generator, session.teacher)
        guidance = replace(session.config.guidance, **changes)
        return Synthesizer(session.generator, session.teacher, guidance, session.calibrate(guidance))


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of images that the teacher assigns to the prompted class."""
    return float((logits.argmax(1) == labels).float().mean())


def new_part(name: str) -> Part:
    """A part with the session of its classes and the cells of its settings."""
    session = embedded_session(config=CONFIGS[name])
    cells = Cells(folder_of(f"{name}_knobs", session, PARTS[name], CENTERS[name], HELD_OUT_IMAGES[name]))
    return Part(name, session, cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that are asked for, and record each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    for name in parser.parse_args(arguments).part or PARTS:
        rows = new_part(name).rows()
        write_results(f"{name}_knobs", f"python -m benchmarks.knobs --part {name}", SEEDS, {"rows": rows})


if __name__ == "__main__":
    main()
