"""What each step of Diversified Prompt Engineering does on Pictograms, without and with guidance.

Usage: python -m benchmarks.dpe [--part steps] [--part senses] [--part sheet]
       python -m benchmarks.publish

Every finished cell is a file in ``runs/dpe-HASH``, the hash being that of all settings; the same command continues
where it was stopped. All rows have the same number of images, and images of one seed share their noise over all rows.
Results go to ``benchmarks/results/dpe.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.cells import Cells, folder_of
from benchmarks.laboratory import Laboratory, labels_of
from benchmarks.publish import RESULTS, ROOT, write_results
from prismkd.classifiers import predict
from prismkd.evaluation.images import evaluate_images
from prismkd.prompts import PromptPlan, diversified_plan
from prismkd.prompts.content import ICON_CONTENTS, PLAIN
from prismkd.prompts.judge import judge_pilot, sense_prompts
from prismkd.prompts.plan import PROBE_SEED
from prismkd.prompts.senses import Sense, Wording, candidate_wordings
from prismkd.prompts.styles import DOMAINS, probe_phrase
from prismkd.shards import to_array
from prismkd.synthesis.synthesizer import Synthesizer, quantized

SEEDS, JUDGE_SEED = (0, 1, 2), 8_000_000
IMAGES_PER_CLASS, PILOT_PER_CLASS, NUM_PROBES = 50, 20, 16
SHOWN, SHOWN_PER_CLASS = ("bolt", "glasses", "mouse", "tree"), 5
STEPS = ("plain", "senses", "content", "style", "adaptive")


class Bench:
    """The measurements; each is a cell that is computed once."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.num_classes = len(laboratory.classes)
        self.cells = Cells(
            folder_of("dpe", laboratory, IMAGES_PER_CLASS, PILOT_PER_CLASS, NUM_PROBES, DOMAINS, ICON_CONTENTS)
        )

    # --- the steps -----------------------------------------------------------------------------------------------

    def steps(self) -> list[dict[str, Any]]:
        """Student and images of every step, without and with guidance."""
        rows = []
        for seed in SEEDS:
            for guided in (False, True):
                for step in STEPS:
                    name = f"{step} {'guided' if guided else 'unguided'} {seed}"
                    cell = self.cells.get(name, partial(self._step, step, guided, seed))
                    rows.append({"step": step, "guided": guided, "seed": seed, **cell})
        return rows

    def _step(self, step: str, guided: bool, seed: int) -> dict[str, Any]:
        laboratory = self.laboratory
        images, labels, allocation = self.draw(step, guided, seed)
        student = laboratory.distil(images, seed)
        real = laboratory.test.domain("id")
        found = evaluate_images(images, labels, laboratory.teacher, laboratory.judge, real, 5, "", 0)
        return {"top1": laboratory.top1(student, seed),
                **{row.metric: row.value for row in found}, **allocation}  # fmt: skip

    def plan(self, step: str, seed: int) -> PromptPlan:
        """The plan of a step: each adds one thing to the step before."""
        laboratory, template = self.laboratory, self.laboratory.prompts.template
        if step == "plain":
            return laboratory.plan(seed)
        config, contents = laboratory.prompts, laboratory.contents
        if step in ("senses", "content"):
            config = replace(config, domains=(f"icon: {template.replace('a {name}', '{}')}",))  # the template's style
        if step == "senses":
            contents = [[PLAIN] for _ in contents]
        return diversified_plan(laboratory.classes, laboratory.senses, contents, config, seed)

    def draw(self, step: str, guided: bool, seed: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Images, labels, and what the pilot decided."""
        plan, count = self.plan(step, seed), IMAGES_PER_CLASS * self.num_classes
        if step != "adaptive":
            return self.images(plan, range(count), guided), labels_of(plan, count), {}
        pilot = PILOT_PER_CLASS * self.num_classes
        laboratory, synthesizer = self.laboratory, self.laboratory.synthesizer(guided)
        first = list(synthesizer.samples([plan[i] for i in range(pilot)], lambda count: None))
        found = judge_pilot(laboratory.teacher, laboratory.generator.device, plan, first)
        plan = plan.allocated(pilot, found.class_shares, found.style_factors)
        pilot_images = torch.stack([torch.from_numpy(to_array(sample)) for sample in first])
        images = torch.cat([pilot_images, self.images(plan, range(pilot, count), guided)])
        return images, labels_of(plan, count), {"shares": found.class_shares, "factors": found.style_factors}

    def images(self, plan: PromptPlan, places: Sequence[int], guided: bool) -> Tensor:
        """A plan's images at some places, as they are stored."""
        return quantized(self.laboratory.synthesizer(guided).draw_all([plan[i] for i in places]))

    def sheet(self) -> Image.Image:
        """The first images of some classes, a row per step, unguided and then guided, seed 0."""
        labels = [[item.name for item in self.laboratory.classes].index(name) for name in SHOWN]
        rows = []
        for guided in (False, True):
            for step in STEPS[:-1]:
                plan = self.plan(step, 0)
                places = [label + turn * self.num_classes for label in labels for turn in range(SHOWN_PER_CLASS)]
                images = self.images(plan, places, guided)[:, 0].mul(255).round().byte()
                padded = torch.full((len(images), 34, 34), 255, dtype=torch.uint8)
                padded[:, 1:33, 1:33] = images
                rows.append(torch.cat(list(padded), dim=1))
        return Image.fromarray(torch.cat(rows).numpy()).resize((len(labels) * SHOWN_PER_CLASS * 51, len(rows) * 51))

    # --- the senses ----------------------------------------------------------------------------------------------

    def senses(self) -> list[dict[str, Any]]:
        """What the outside judge sees in the images of each source's wording, class by class."""
        rows = []
        for seed in SEEDS:
            rows += self.cells.get(f"senses {seed}", partial(self._senses_cell, seed))["rows"]
        return rows

    def _senses_cell(self, seed: int) -> dict[str, Any]:
        """Wordings from the name alone and from WordNet; the class list's own definitions are only the reference."""
        scored = self.laboratory.judged(self._bare_senses(), PROBE_SEED + seed)
        rows = []
        for item, sense in zip(self.laboratory.classes, scored, strict=True):
            sources = {"name alone": sense.wordings[0], "teacher as judge": sense.wording,
                       "definition of the class list": candidate_wordings(item)[-1]}  # fmt: skip
            known = [wording for wording in sense.wordings if wording.source == "wordnet"]
            if known:
                sources["WordNet's first sense"] = known[0]
            recognized = {name: self.recognized(item.name, wording, seed) for name, wording in sources.items()}
            rows.append({"class": item.name, "polysemous": item.polysemous, "seed": seed, "chosen": sense.text,
                         "tie": sense.tie, "num_senses": len(known), "recognized": recognized})  # fmt: skip
        return {"rows": rows}

    def _bare_senses(self) -> list[Sense]:
        bare = [replace(item, definition="") for item in self.laboratory.classes]
        return [Sense(item.name, tuple(candidate_wordings(item))) for item in bare]

    def recognized(self, class_name: str, wording: Wording, seed: int) -> float:
        """The share of a wording's images that the judge takes for the class."""
        laboratory = self.laboratory
        names = [item.name for item in laboratory.classes]
        phrase = probe_phrase(laboratory.prompts.domains)
        prompts = sense_prompts([Sense(class_name, (wording,))], NUM_PROBES, phrase, JUDGE_SEED + seed)
        images = quantized(Synthesizer(laboratory.generator, laboratory.teacher).draw_all(prompts))
        return float((predict(laboratory.judge, images).argmax(1) == names.index(class_name)).float().mean())


def main() -> None:
    """Measure the asked parts and record them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("senses", "steps", "sheet")
    parser.add_argument("--part", choices=parts, action="append", help="default: all")
    asked = parser.parse_args().part or parts
    bench = Bench(Laboratory())
    path = RESULTS / "dpe.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    if "sheet" in asked:
        bench.sheet().save(ROOT / "docs" / "images" / "dpe-sheet.png", optimize=True)
    for part in (part for part in parts if part in asked and part != "sheet"):
        recorded[part] = getattr(bench, part)()
        write_results("dpe", "python -m benchmarks.dpe", SEEDS, recorded)


if __name__ == "__main__":
    main()
