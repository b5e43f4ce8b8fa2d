"""How the settings of `benchmarks.federated` were chosen, without its test: on icons that none of its teachers saw.

Usage: python -m benchmarks.federated_choice [--seed S ...]

Other teachers, each without up to 30 % of its icons, whole families of them, guide the images and teach the students;
what was left out is the test. Every finished cell is a file in ``runs/federated-choice-HASH``, the hash being that of
all settings; the same command continues where it was stopped. Seeds may run side by side, each with its --seed; the
command without --seed writes ``benchmarks/results/federated_choice.json``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import SUBSET, embedded_session, plan_with_share
from benchmarks.federated import NUM_CLASSES, TEACHERS, icons, owners, train_teachers
from benchmarks.pools import draw_in_turn, load_pools, save_pools
from benchmarks.publish import write_results
from prismkd.classifiers import predict
from prismkd.config.seeds import derive
from prismkd.distillation import TrainingSet

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
    owner, num_icons = owners(families), Counter(families)
    rng, left_out_families = np.random.default_rng(derive(seed, "left out")), set[str]()
    for number in range(len(TEACHERS)):
        owned, num_left_out = sorted(family for family in owner if owner[family] == number), 0
        most = LEFT_OUT * sum(num_icons[family] for family in owned)
        rng.shuffle(owned)
        for family in owned:
            if num_left_out + num_icons[family] <= most:
                left_out_families.add(family)
                num_left_out += num_icons[family]
    return left_out_families


class Choice:
    """One seed's candidates, each measured once."""

    def __init__(self, seed: int) -> None:
        settings = (TEACHERS, LEFT_OUT, NUM_TEACHER_STEPS)
        self.seed = seed
        self.cells = Cells(folder_of("federated-choice", embedded_session(NUM_STEPS), *settings) / f"seed-{seed}")
        real, families = icons()
        unseen = left_out(families, seed)
        is_unseen = torch.tensor([family in unseen for family in families])
        self.images, self.labels = real.images[is_unseen], real.labels[is_unseen]
        teachers = train_teachers(self.cells.folder / "teachers", seed, unseen, NUM_TEACHER_STEPS)
        self.session = embedded_session(NUM_STEPS, replace(SUBSET, teacher=str(teachers)))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Accuracy of the teachers' plain average and of each candidate's student."""
        common = {"seed": self.seed, "num_test": len(self.labels)}
        average = self.cells.get("average", lambda: {"accuracy": self._accuracy(self.session.teacher)})
        yield {**common, "who": "plain average", **average}
        for candidate in CANDIDATES:
            name = "-".join(map(str, candidate))
            cell = self.cells.get(name, partial(self._student, *candidate))
            fields = ("id_share", "images_per_class", "architecture", "hard_label_weight")
            yield {**common, "who": "student", **dict(zip(fields, candidate, strict=True)), **cell}

    def _student(self, id_share: float, per_class: int, architecture: str, weight: float) -> dict[str, Any]:
        recipe = replace(self.session.config.distillation, architecture=architecture, hard_label_weight=weight)
        data = TrainingSet(*self._synthetic(id_share, per_class))
        return {"accuracy": self._accuracy(self.session.distill(data, seed=self.seed, recipe=recipe))}

    def _synthetic(self, id_share: float, per_class: int) -> tuple[Tensor, Tensor]:
        """PRISM's images and their labels; drawn once, as many as the largest candidate of this share takes."""
        path = self.cells.folder / "pools" / f"{id_share}.npz"
        if not path.is_file():
            plan = plan_with_share(self.session, self.seed, id_share)
            most = NUM_CLASSES * max(candidate[1] for candidate in CANDIDATES if candidate[0] == id_share)
            save_pools(path, draw_in_turn([self.session.synthesizer("prism")], plan, 0, most))
        pool = load_pools(path)[0].first(per_class * NUM_CLASSES)
        return pool.images, pool.labels

    def _accuracy(self, network: nn.Module) -> float:
        """Top-1 on the icons that no teacher saw."""
        return float((predict(network, self.images).argmax(1) == self.labels).float().mean())


def main() -> None:
    """Measure the candidates of the seeds that are asked for; record them where those are all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="default: all")
    arguments = parser.parse_args()
    rows = [row for seed in arguments.seed or SEEDS for row in Choice(seed).rows()]
    if len({row["seed"] for row in rows}) == len(SEEDS):
        write_results("federated_choice", "python -m benchmarks.federated_choice", SEEDS, {"rows": rows})


if __name__ == "__main__":
    main()
