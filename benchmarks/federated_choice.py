"""How the settings of `benchmarks.federated` were chosen, without its test: on icons that none of its teachers saw.

Usage: python -m benchmarks.federated_choice [--seed S ...] [--out runs/federated-choice]

Other teachers, each without up to 30 % of its icons, whole families of them, guide the images and teach the students;
what was left out is the test. Stopped, it goes on. Seeds may run side by side, each with its --seed; the command
without writes ``benchmarks/results/federated_choice.json``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cells import Cells
from benchmarks.federated import NUM_CLASSES, TEACHERS, icons, owners, train_teachers
from benchmarks.laboratory import Laboratory, labels_of
from benchmarks.publish import write_results
from prismkd.classifiers import predict
from prismkd.config import Config
from prismkd.distillation import TrainingSet, to_bytes
from prismkd.synthesis.synthesizer import quantized

SEEDS = (0, 1)
LEFT_OUT, NUM_TEACHER_STEPS, NUM_STEPS = 0.3, 800, 800
CANDIDATES = [  # id_share, images per class, student, hard_label_weight
    (0.25, 50, "small-resnet-16", 0.8),
    (0.5, 50, "small-resnet-16", 0.8),
    (0.5, 80, "small-resnet-16", 0.8),
    (0.5, 80, "small-resnet-32", 0.8),
]


def left_out(families: list[str], seed: int) -> set[str]:
    """Families in a random order, as long as their owner keeps 70 % of its icons."""
    owner, sizes, rng, found = owners(families), Counter(families), np.random.default_rng(100 + seed), set[str]()
    for number in range(len(TEACHERS)):
        mine, taken = sorted(family for family in owner if owner[family] == number), 0
        total = sum(sizes[family] for family in mine)
        rng.shuffle(mine)
        for family in mine:
            if taken + sizes[family] <= LEFT_OUT * total:
                found.add(family)
                taken += sizes[family]
    return found


class Choice:
    """One seed's candidates, each measured once."""

    def __init__(self, out: Path, seed: int) -> None:
        self.seed, self.cells = seed, Cells(out / f"seed-{seed}")
        real, families = icons()
        without = left_out(families, seed)
        mask = torch.tensor([family in without for family in families])
        self.images, self.labels = real.images[mask], real.labels[mask]
        teachers = train_teachers(self.cells.folder / "teachers", seed, without, NUM_TEACHER_STEPS)
        self.laboratory = Laboratory(NUM_STEPS, Config(teacher=str(teachers)))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Accuracy of the teachers' plain average and of each candidate's student."""
        common = {"seed": self.seed, "num_test": len(self.labels)}
        average = self.cells.get("average", lambda: {"accuracy": self._accuracy(self.laboratory.teacher)})
        yield {**common, "who": "plain average", **average}
        for candidate in CANDIDATES:
            name = "-".join(map(str, candidate))
            found = self.cells.get(name, partial(self._student, *candidate))
            fields = ("id_share", "images_per_class", "architecture", "hard_label_weight")
            yield {**common, "who": "student", **dict(zip(fields, candidate, strict=True)), **found}

    def _student(self, id_share: float, per_class: int, architecture: str, weight: float) -> dict[str, Any]:
        recipe = replace(self.laboratory.recipe, architecture=architecture, hard_label_weight=weight)
        data = TrainingSet(*self._drawn(id_share, per_class))
        return {"accuracy": self._accuracy(self.laboratory.distil(data, self.seed, recipe=recipe))}

    def _drawn(self, id_share: float, per_class: int) -> tuple[Tensor, Tensor]:
        """PRISM's images and their labels; as many as any candidate takes are drawn, once."""
        path, count = self.cells.folder / f"images-{id_share}.npz", per_class * NUM_CLASSES
        if not path.is_file():
            plan = self.laboratory.plan(self.seed, id_share)
            most = NUM_CLASSES * max(candidate[1] for candidate in CANDIDATES if candidate[0] == id_share)
            drawn = self.laboratory.synthesizer(guided=True).draw_all([plan[i] for i in range(most)])
            with path.with_suffix(".tmp").open("wb") as file:
                np.savez(file, images=to_bytes(quantized(drawn)).numpy(), labels=labels_of(plan, most).numpy())
            path.with_suffix(".tmp").replace(path)
        with np.load(path) as found:
            return torch.from_numpy(found["images"][:count]), torch.from_numpy(found["labels"][:count])

    def _accuracy(self, network: nn.Module) -> float:
        return float((predict(network, self.images).argmax(1) == self.labels).float().mean())


def main() -> None:
    """All seeds, then the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/federated-choice"))
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="default: all")
    arguments = parser.parse_args()
    rows = [row for seed in arguments.seed or SEEDS for row in Choice(arguments.out, seed).rows()]
    if len({row["seed"] for row in rows}) == len(SEEDS):
        write_results("federated_choice", "python -m benchmarks.federated_choice", SEEDS, {"rows": rows})


if __name__ == "__main__":
    main()
