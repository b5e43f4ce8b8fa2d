"""Whether an adapted generator pays: its images, its students and its seconds beside those of DPE and PRISM.

Usage: python -m benchmarks.adaptation [--part adapters] [--part students] [--part survival] [--part collapse]
           [--part sheet]
       python -m benchmarks.publish

On the 24 classes of ``pictograms-24``, with the settings of the embedded world's recipes. Adapters are trained once, as
in a run, and serve all seeds. Every finished cell is a file in ``runs/adaptation-HASH``, the hash being that of all
settings, and adapters have checkpoints there; the same command continues where it was stopped. It writes
``benchmarks/results/adaptation.json`` and ``docs/images/adaptation-sheet.png``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from PIL import Image
from torch import nn

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import IMAGES_PER_CLASS, embedded_session, judge_of, labels_of, top1
from benchmarks.publish import ROOT
from prismkd import Session
from prismkd.distillation import to_bytes
from prismkd.evaluation.images import evaluate_images
from prismkd.generators.lora import Adapter
from prismkd.prompts import PromptPlan
from prismkd.synthesis.survival import ADAPTED, gains, survival_test
from prismkd.synthesis.synthesizer import Synthesizer, quantized

SEEDS = (0, 1, 2)
NEAREST_K = 5  # neighbors in precision, recall, density and coverage
NUM_SURVIVAL = 192
ADAPTERS: dict[str, dict[str, Any]] = {  # changes of the default settings, by name
    "guided": {},
    "energy": {"objective": "energy"},
}
COLLAPSING = {"objective": "energy", "proximity_weight": 0.0, "diversity_weight": 0.0}
ROWS = (  # method, adapter
    ("plain", ""), ("dpe", ""), ("prism", ""),
    ("adapted", "guided"), ("adapted-prism", "guided"), ("adapted", "energy"), ("adapted-prism", "energy"),
)  # fmt: skip
PARTS = ("adapters", "students", "survival", "collapse", "sheet")
SHEET_CLASSES, SHEET_PER_CLASS, SHEET_SIDE = ("bolt", "glasses", "mouse", "tree"), 5, 51  # 51 pixels per picture


@dataclass(frozen=True)
class Measurements:
    """The parts; each of their cells is measured once."""

    session: Session

    @cached_property
    def cells(self) -> Cells:
        """Of these settings."""
        return Cells(folder_of("adaptation", self.session, ADAPTERS, COLLAPSING, IMAGES_PER_CLASS))

    # --- the adapters ------------------------------------------------------------------------------------------------

    def adapters(self) -> list[dict[str, Any]]:
        """How each adapter was trained."""
        return [{"adapter": name, **self._training(name, changes)} for name, changes in ADAPTERS.items()]

    def collapse(self) -> list[dict[str, Any]]:
        """The energy alone, with nothing against the loss of diversity: to its end, and with the stop."""
        rows = {"to the end": {**COLLAPSING, "max_diversity_loss": 1.0}, "with the stop": COLLAPSING}
        return [{"adapter": name, **self._training(f"collapse {name}", changes)} for name, changes in rows.items()]

    def _training(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        return self.cells.get(f"adapter {name}", partial(self._train, name, changes))

    def _train(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        config = replace(self.session.config, adaptation=replace(self.session.config.adaptation, **changes))
        session = replace(self.session, config=config)
        for decided in ("generator", "teacher", "calibration", "senses", "contents"):  # once for all adapters
            session.__dict__[decided] = getattr(self.session, decided)
        return asdict(session.train_adapter(self._folder(name)))

    def _folder(self, name: str) -> Any:
        return self.cells.folder / "adapters" / name.replace(" ", "-")

    def synthesizer(self, method: str, adapter: str) -> Synthesizer:
        """What draws a row's images."""
        plain = {"adapted": "dpe", "adapted-prism": "prism"}.get(method, method)
        found = self.session.synthesizer(plain)
        if not adapter:
            return found
        self._training(adapter, ADAPTERS[adapter])
        return replace(found, adapter=Adapter.of(str(self._folder(adapter))))

    # --- images and students -----------------------------------------------------------------------------------------

    def students(self) -> list[dict[str, Any]]:
        """Every row's images and students, at equal numbers."""
        return [{"method": method, "adapter": adapter, "seed": seed,
                 **self.cells.get(f"{method} {adapter} {seed}", partial(self._student, method, adapter, seed))}
                for seed in SEEDS for method, adapter in ROWS]  # fmt: skip

    def _student(self, method: str, adapter: str, seed: int) -> dict[str, Any]:
        session, plan, synthesizer = self.session, self.session.plan(method, seed), self.synthesizer(method, adapter)
        prompts = [plan[index] for index in range(IMAGES_PER_CLASS * len(session.classes))]
        synthesizer.generator.use_adapter(synthesizer.adapter)  # not a part of what an image costs
        start = time.monotonic()
        images, labels = quantized(synthesizer.draw_all(prompts)), labels_of(plan, len(prompts))
        seconds = time.monotonic() - start
        student = session.distill(images, labels, seed)
        measured = evaluate_images(images, labels, session.teacher, judge_of(session), session.test.domain("id"),
                                   NEAREST_K, "", 0)  # fmt: skip
        return {"top1": top1(session, student, seed), "seconds_per_image": seconds / len(images),
                **{row.metric: row.value for row in measured}}  # fmt: skip

    # --- is it an attack? --------------------------------------------------------------------------------------------

    def survival(self) -> list[dict[str, Any]]:
        """What of the adapters' gain survives treatments, and convinces the judge."""
        return [{"adapter": name, **self.cells.get(f"survival {name}", partial(self._survival, name))}
                for name in ADAPTERS]  # fmt: skip

    def _survival(self, name: str) -> dict[str, Any]:
        adapter, session = self.synthesizer("adapted", name).adapter, self.session
        plan = self._in_own_domain()
        rows = survival_test(session.synthesizer("eda"), plan, NUM_SURVIVAL, session.judge, lambda count: None, adapter)
        return {"guided": gains(rows), "adapted": gains(rows, ADAPTED)}

    def _in_own_domain(self) -> PromptPlan:
        """DPE's prompts in the teacher's own domain, where guidance acts and adapters learn."""
        prompts = replace(self.session.prompts, id_share=1.0)
        return self.session.plan("prism", SEEDS[0], prompts)

    def sheet(self) -> Image.Image:
        """The first images of some classes in the teacher's own domain, a row per way to draw them; seed 0."""
        plan, names = self._in_own_domain(), [item.name for item in self.session.classes]
        prompts = [plan[names.index(name) + turn * len(names)]
                   for name in SHEET_CLASSES for turn in range(SHEET_PER_CLASS)]  # fmt: skip
        rows = []
        for synthesizer in self._shown():
            images = quantized(synthesizer.draw_all(prompts))
            rows.append(torch.cat(list(to_bytes(nn.functional.pad(images, (1, 1, 1, 1), value=1.0))), dim=2))
        sheet = Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy())
        return sheet.resize((len(prompts) * SHEET_SIDE, len(rows) * SHEET_SIDE))

    def _shown(self) -> Iterator[Synthesizer]:
        for method, adapter in (("dpe", ""), ("prism", ""), ("adapted", "guided"), ("adapted", "energy")):
            yield self.synthesizer(method, adapter)


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    chosen = parser.parse_args().part or PARTS
    measurements = Measurements(embedded_session())
    for part in ("adapters", "students", "survival", "collapse"):
        if part in chosen:
            found = getattr(measurements, part)()
            measurements.cells.record("adaptation", "python -m benchmarks.adaptation", SEEDS, part, found)
    if "sheet" in chosen:
        measurements.sheet().save(ROOT / "docs" / "images" / "adaptation-sheet.png", optimize=True)


if __name__ == "__main__":
    main()
