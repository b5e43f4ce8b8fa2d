"""What each step of Diversified Prompt Engineering does on Pictograms, without and with guidance.

Usage: python -m benchmarks.dpe [--part steps] [--part senses] [--part variants] [--part sheet]
       python -m benchmarks.publish

Parts: the steps, each added to the one before, on 24 classes; the senses of all 97, as an outside judge sees them by
source of the wording; variants of PRISM's prompts in the published comparison; and a sheet of pictures. Every finished
cell is a file in ``runs/dpe-HASH``, the hash being that of all settings; the same command continues where it was
stopped. All rows of a part have the same number of images, and images of one seed share their noise over all rows. It
writes ``benchmarks/results/dpe.json`` and ``docs/images/dpe-sheet.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, embedded_session, judge_of, labels_of, top1
from benchmarks.publish import ROOT
from prismkd import Config, Session
from prismkd.classes import ClassName
from prismkd.classifiers import predict
from prismkd.config import PromptsConfig
from prismkd.config.load import load_config
from prismkd.config.seeds import derive
from prismkd.distillation import to_bytes
from prismkd.evaluation.images import evaluate_images
from prismkd.prompts import PromptPlan, diversified_plan
from prismkd.prompts.content import ICON_CONTENTS, PLAIN
from prismkd.prompts.judge import judge_pilot, sense_prompts
from prismkd.prompts.senses import Sense, Wording, candidate_wordings
from prismkd.prompts.styles import DOMAINS, ICON_DOMAINS, probe_phrase
from prismkd.shards import to_array
from prismkd.synthesis.synthesizer import Synthesizer, quantized

SEEDS = (0, 1, 2)
PILOT_PER_CLASS, NUM_PROBES = 16, 16
NEAREST_K = 5  # neighbors in precision, recall, density and coverage
SHEET_CLASSES, SHEET_PER_CLASS, SHEET_SIDE = ("bolt", "glasses", "mouse", "tree"), 5, 51  # 51 pixels per picture
STEPS = ("plain", "senses", "content", "style", "adaptive")
GUIDED_STEPS = ("style", "adaptive")  # guidance acts on the teacher's own domain, which earlier steps don't set apart
PARTS = ("senses", "steps", "variants", "sheet")
VARIANT_SEED = 0  # they explain the comparison, and choose nothing
VARIANTS: dict[str, dict[str, Any]] = {
    "without varied contents": {"content": False},
    "seven styles (no pixel, no hand-drawn)": {
        "domains": tuple(d for d in ICON_DOMAINS if d not in ("pixel", "hand-drawn"))
    },
    "half of the images filled": {"id_share": 0.5},
    "four styles (filled, icon, outline, hand-drawn)": {"domains": ("filled", "icon", "outline", "hand-drawn")},
}


class Measurements:
    """The parts; each of their cells is measured once.

    Attributes:
        session: of steps and sheet.
        of_senses: of the senses; a third of all classes are ambiguous, and there is no student to train.
    """

    def __init__(self, session: Session, of_senses: Session) -> None:
        self.session, self.of_senses = session, of_senses
        self.num_classes = len(session.classes)
        settings = (asdict(of_senses.config), IMAGES_PER_CLASS, PILOT_PER_CLASS, NUM_PROBES, DOMAINS, ICON_CONTENTS)
        self.cells = Cells(folder_of("dpe", session, *settings))

    # --- the steps -----------------------------------------------------------------------------------------------

    def steps(self) -> list[dict[str, Any]]:
        """Student and images of every step, without and with guidance."""
        rows = []
        for seed in SEEDS:
            for guided in (False, True):
                for step in GUIDED_STEPS if guided else STEPS:
                    name = f"{step} {'guided' if guided else 'unguided'} {seed}"
                    cell = self.cells.get(name, partial(self._step_cell, step, guided, seed))
                    rows.append({"step": step, "guided": guided, "seed": seed, **cell})
        return rows

    def _step_cell(self, step: str, guided: bool, seed: int) -> dict[str, Any]:
        session = self.session
        images, labels, allocation = self.draw(step, guided, seed)
        student = session.distill(images, labels, seed)
        real = session.test.domain("id")
        measured = evaluate_images(images, labels, session.teacher, judge_of(session), real, NEAREST_K, "", 0)
        return {"top1": top1(session, student, seed),
                **{row.metric: row.value for row in measured}, **allocation}  # fmt: skip

    def plan(self, step: str, seed: int) -> PromptPlan:
        """The plan of a step: each adds one thing to the step before."""
        session, template = self.session, self.session.prompts.template
        if step == "plain":
            return session.plan("plain", seed)
        config, contents = session.prompts, session.contents
        if step in ("senses", "content"):
            config = replace(config, domains=(f"icon: {template.replace('a {name}', '{}')}",))  # the template's style
        if step == "senses":
            contents = [[PLAIN] for _ in contents]
        return diversified_plan(session.classes, session.senses, contents, config, seed)

    def draw(self, step: str, guided: bool, seed: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Images, labels, and what the pilot decided (nothing but in the step ``adaptive``)."""
        plan, count = self.plan(step, seed), IMAGES_PER_CLASS * self.num_classes
        if step != "adaptive":
            return self.images(plan, range(count), guided), labels_of(plan, count), {}
        pilot = PILOT_PER_CLASS * self.num_classes
        session, synthesizer = self.session, self.session.synthesizer("prism" if guided else "plain")
        samples = list(synthesizer.samples([plan[i] for i in range(pilot)], lambda count: None))
        allocation = judge_pilot(synthesizer.teacher_on_device, session.generator.device, plan, samples)
        plan = plan.allocated(pilot, allocation.class_shares, allocation.style_factors)
        pilot_images = torch.stack([torch.from_numpy(to_array(sample)) for sample in samples])
        images = torch.cat([pilot_images, self.images(plan, range(pilot, count), guided)])
        decided = {"shares": allocation.class_shares, "factors": allocation.style_factors}
        return images, labels_of(plan, count), decided

    def images(self, plan: PromptPlan, indices: Sequence[int], guided: bool) -> Tensor:
        """A plan's images of some indices, as they are stored."""
        return quantized(self.session.synthesizer("prism" if guided else "plain").draw_all([plan[i] for i in indices]))

    def sheet(self) -> Image.Image:
        """The first images of some classes, a row per step, unguided and then guided, seed 0."""
        names = [item.name for item in self.session.classes]
        indices = [names.index(name) + turn * self.num_classes
                   for name in SHEET_CLASSES for turn in range(SHEET_PER_CLASS)]  # fmt: skip
        rows = []
        for guided in (False, True):
            for step in GUIDED_STEPS[:-1] if guided else STEPS[:-1]:  # the adaptive step begins like the one before
                framed = nn.functional.pad(self.images(self.plan(step, 0), indices, guided), (1, 1, 1, 1), value=1.0)
                rows.append(torch.cat(list(to_bytes(framed)), dim=2))
        sheet = Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy())
        return sheet.resize((len(indices) * SHEET_SIDE, len(rows) * SHEET_SIDE))

    # --- variants of the comparison's prompts ------------------------------------------------------------------------

    def variants(self) -> list[dict[str, Any]]:
        """Students of PRISM's images with other prompts than the published recipe's."""
        return [{"variant": name, **self.cells.get(f"variant {name}", partial(self._variant_cell, changes))}
                for name, changes in VARIANTS.items()]  # fmt: skip

    def _variant_cell(self, changes: dict[str, Any]) -> dict[str, Any]:
        session = Session(load_config(ROOT / "configs" / "pictograms.toml"))
        config = replace(session.prompts, **changes)
        contents = session.contents if config.content else [[PLAIN] for _ in session.classes]
        plan = diversified_plan(session.classes, session.senses, contents, config, VARIANT_SEED)
        count = session.config.synthesis.images_per_class * len(session.classes)
        images = quantized(session.synthesizer("prism").draw_all([plan[i] for i in range(count)]))
        student = session.distill(images, labels_of(plan, count), VARIANT_SEED)
        return {"top1": top1(session, student, VARIANT_SEED)}

    # --- the senses ----------------------------------------------------------------------------------------------

    def senses(self) -> list[dict[str, Any]]:
        """What the outside judge sees in the images of each source's wording, class by class."""
        rows = []
        for seed in SEEDS:
            rows += self.cells.get(f"senses {seed}", partial(self._senses_cell, seed))["rows"]
        return rows

    def _senses_cell(self, seed: int) -> dict[str, Any]:
        """Wordings from the name alone and from WordNet; the class list's own definitions are only the reference."""
        judged = self.of_senses.judged(self._bare_senses(), derive(seed, "probes"))
        rows = []
        for item, sense in zip(self.of_senses.classes, judged, strict=True):
            sources = {"name alone": sense.wordings[0], "teacher as judge": sense.wording,
                       "definition of the class list": _wordings(item)[-1]}  # fmt: skip
            of_wordnet = [wording for wording in sense.wordings if wording.source == "wordnet"]
            if of_wordnet:
                sources["WordNet's first sense"] = of_wordnet[0]
            recognized = {name: self.recognized(item.name, wording, seed) for name, wording in sources.items()}
            rows.append({"class": item.name, "polysemous": item.polysemous, "seed": seed, "chosen": sense.text,
                         "tie": sense.tie, "num_senses": len(of_wordnet), "recognized": recognized})  # fmt: skip
        return {"rows": rows}

    def _bare_senses(self) -> list[Sense]:
        """The classes as a list of bare names would give them."""
        bare = [replace(item, definition="") for item in self.of_senses.classes]
        return [Sense(item.name, tuple(_wordings(item))) for item in bare]

    def recognized(self, class_name: str, wording: Wording, seed: int) -> float:
        """The share of a wording's images that the judge takes for the class."""
        session = self.of_senses
        names = [item.name for item in session.classes]
        phrase = probe_phrase(session.prompts.domains)
        prompts = sense_prompts([Sense(class_name, (wording,))], NUM_PROBES, phrase, derive(seed, "judge"))
        images = quantized(Synthesizer(session.generator, session.teacher).draw_all(prompts))
        return float((predict(judge_of(session), images).argmax(1) == names.index(class_name)).float().mean())


def _wordings(item: ClassName) -> list[Wording]:
    return candidate_wordings(item, max_senses=PromptsConfig.max_senses)


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    chosen = parser.parse_args().part or PARTS
    measurements = Measurements(embedded_session(), embedded_session(config=Config()))
    if "sheet" in chosen:
        measurements.sheet().save(ROOT / "docs" / "images" / "dpe-sheet.png", optimize=True)
    for part in ("senses", "steps", "variants"):
        if part in chosen:
            found = getattr(measurements, part)()
            measurements.cells.record("dpe", "python -m benchmarks.dpe", SEEDS, part, found)


if __name__ == "__main__":
    main()
