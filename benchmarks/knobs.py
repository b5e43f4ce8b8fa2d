"""Where the knobs of guidance and style sit, by what the teacher says; no real image is read.

Usage: python -m benchmarks.knobs            (about 25 minutes on two idle cores)
       python -m benchmarks.publish          (writes the tables into docs/pictograms.md)

One row per setting, on images of the same seeds: the teacher's agreement with the prompted class, on the images and
on harsh views of them (what vanishes there was an adversarial pattern); the mean free energy; Vendi per class in the
teacher's features; and the fidelity of a student: how often it agrees with the teacher on held-out unguided images that
the teacher assigns to the prompted class, half of plain prompts, half of every style in equal parts.

The rule: the setting with the highest fidelity; of settings within its standard error, the weakest guidance.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from benchmarks.publish import RESULTS, head_commit
from prismkd.augmentation import random_views
from prismkd.config import Config
from prismkd.distillation import distill, new_student
from prismkd.energy import free_energy
from prismkd.generators import load_generator
from prismkd.guidance import Calibration
from prismkd.metrics import vendi_score
from prismkd.probes import judge_senses, run_calibration
from prismkd.prompts import PromptPlan, load_classes, make_plan
from prismkd.prompts.senses import Sense, unjudged_senses
from prismkd.prompts.styles import ICON_STYLES
from prismkd.stages import hardware
from prismkd.students import predict
from prismkd.synthesis import Synthesizer
from prismkd.teachers import load_teacher

STRENGTHS = (0.0, 0.2, 0.4, 0.8, 1.2)
SHARES = (0.0, 0.25, 0.5, 0.75)
SEED, HELD_OUT_SEED, PROBE_SEED = 777, 778, 7_000_000


class Laboratory:
    """The embedded world, opened for measurements."""

    def __init__(self, images_per_class: int, num_steps: int) -> None:
        self.config = Config()
        self.recipe = replace(self.config.distillation, num_steps=num_steps)
        self.classes = load_classes("pictograms")
        self.count = images_per_class * len(self.classes)
        self.teacher = load_teacher("pictograms", [item.name for item in self.classes])
        self.unguided = Synthesizer(load_generator(self.config.generator), self.teacher)
        probes = self.config.prompts.num_probes
        self.senses = judge_senses(self.classes, self.unguided, probes, PROBE_SEED, lambda count: None)
        self.calibration: Calibration = run_calibration(
            self.plan(PROBE_SEED, None), self.unguided, self.config.guidance, lambda count: None
        )[0]
        even = 1 / len(ICON_STYLES)
        self.held_out = [self.draw(self.plan(HELD_OUT_SEED, share), 0.0) for share in (None, even)]

    def plan(self, seed: int, id_share: float | None) -> PromptPlan:
        """Plain prompts where ``id_share`` is None, else DPE's."""
        diversified = id_share is not None
        senses: list[Sense] = self.senses if diversified else unjudged_senses(self.classes)
        return make_plan(senses, seed, diversified=diversified, template=self.config.prompts.template,
                         id_share=id_share or 0.0)  # fmt: skip

    def draw(self, plan: PromptPlan, strength: float) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        prompts = [plan[i] for i in range(self.count)]
        guidance = replace(self.config.guidance, strength=strength)
        images = replace(self.unguided, guidance=guidance, calibration=self.calibration).draw_all(prompts)
        return images.mul(255).round().div(255), torch.tensor([prompt.label for prompt in prompts])

    def fidelity(self, images: Tensor) -> float:
        """Distil a student from ``images`` and compare it with the teacher on the held-out images."""
        student = new_student(self.recipe, len(self.classes), images.shape[1], 0)
        with tempfile.TemporaryDirectory() as folder:
            distill(student, self.teacher, images, self.recipe, 0, Path(folder) / "checkpoint.pt", lambda count: None)
        shares = []
        for held_out, labels in self.held_out:
            known = predict(self.teacher, held_out).argmax(1) == labels
            shares.append(float((predict(student, held_out).argmax(1) == labels)[known].float().mean()))
        return mean(shares)

    def measure(self, id_share: float | None, strength: float) -> dict[str, Any]:
        """One row of the table."""
        images, labels = self.draw(self.plan(SEED, id_share), strength)
        logits = predict(self.teacher, images)
        views = random_views(images, noise=0.1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = self.teacher.features(images)
        return {
            "prompts": "plain" if id_share is None else "DPE",
            "id_share": id_share,
            "strength": strength,
            "agreement": agreement(logits, labels),
            "agreement_harsh": agreement(predict(self.teacher, views), labels),
            "energy": float(free_energy(logits).mean()),
            "vendi": mean(vendi_score(features[labels == k].numpy()) for k in range(len(self.classes))),
            "fidelity": self.fidelity(images),
        }


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of images that the teacher assigns to the prompted class."""
    return float((logits.argmax(1) == labels).float().mean())


def settings() -> Iterator[tuple[float | None, float]]:
    """(id_share, strength): EDA alone, then PRISM."""
    yield from ((None, strength) for strength in STRENGTHS)
    yield from ((share, strength) for share in SHARES for strength in STRENGTHS if strength >= 0.4)


def main() -> None:
    """Measure every setting and record the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images-per-class", type=int, default=50)
    parser.add_argument("--num-steps", type=int, default=800)
    arguments = parser.parse_args()
    laboratory = Laboratory(arguments.images_per_class, arguments.num_steps)
    rows = []
    for id_share, strength in settings():
        rows.append(laboratory.measure(id_share, strength))
        print(json.dumps(rows[-1]), flush=True)
    (RESULTS / "knobs.json").write_text(json.dumps({
        "schema": 1, "rows": rows, "command": "python -m benchmarks.knobs", "hardware": hardware(), "seeds": [SEED],
        "date": datetime.now(UTC).date().isoformat(), "commit": head_commit(),
        "images_per_class": arguments.images_per_class, "num_steps": arguments.num_steps,
    }, indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
