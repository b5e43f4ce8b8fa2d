"""How adapters of the generator train, whether what they gain is an attack, and what happens where diversity is lost.

Usage: python -m benchmarks.adaptation [--part adapters] [--part survival] [--part collapse] [--part sheet]
       python -m benchmarks.publish

On all 97 classes of Pictograms, with the recipe of ``configs/pictograms.toml``; the collapse on 24 classes. Adapters
are trained once, as in a run. Their students stand in ``benchmarks.beyond``. Every finished cell is a file in
``runs/adaptation-HASH``, the hash being that of all settings, and adapters have checkpoints there; the same command
continues where it was stopped. It writes ``benchmarks/results/adaptation.json`` and
``docs/images/adaptation-sheet.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import SUBSET, with_adaptation
from benchmarks.publish import ROOT
from prismkd import Session
from prismkd.config.load import load_config
from prismkd.distillation import to_bytes
from prismkd.generators.lora import Adapter
from prismkd.prompts import PromptPlan
from prismkd.runs.measuring import hardware
from prismkd.synthesis.survival import ADAPTED, gains, survival_test
from prismkd.synthesis.synthesizer import Synthesizer, quantized

SEED = 0
NUM_SURVIVAL = 192
SLOW = {"learning_rate": 5e-4}
ADAPTERS: dict[str, dict[str, Any]] = {  # changes of the default settings, by name
    "regression": {},
    "regression, a quarter of the rate": SLOW,
    "regression, a quarter of both": {**SLOW, "num_steps": 60, "check_every": 15},
    "energy": {"objective": "energy", "num_steps": 120, "check_every": 30, "learning_rate": 3e-4},
}
SHOWN = ("regression", "energy")  # whose images are looked at
COLLAPSING = {
    "objective": "energy",
    "proximity_weight": 0.0,
    "diversity_weight": 0.0,
    "num_steps": 60,
    "check_every": 10,
}
PARTS = ("adapters", "survival", "collapse", "sheet")
SHEET_CLASSES, SHEET_PER_CLASS, SHEET_SIDE = ("bolt", "glasses", "mouse", "tree"), 5, 51  # 51 pixels per picture


@dataclass(frozen=True)
class Measurements:
    """The parts; each of their cells is measured once."""

    session: Session

    @cached_property
    def cells(self) -> Cells:
        """Of these settings."""
        return Cells(folder_of("adaptation", self.session, ADAPTERS, COLLAPSING))

    # --- the adapters ------------------------------------------------------------------------------------------------

    def adapters(self) -> list[dict[str, Any]]:
        """How each adapter was trained."""
        return [{"adapter": name, **self._training(self.session, name, changes)} for name, changes in ADAPTERS.items()]

    def collapse(self) -> list[dict[str, Any]]:
        """The energy alone, with nothing against the loss of diversity: to its end, and with the stop."""
        session = Session(SUBSET)
        rows = {"to the end": {**COLLAPSING, "max_diversity_loss": 1.0}, "with the stop": COLLAPSING}
        return [{"adapter": name, **self._training(session, f"collapse {name}", changes)}
                for name, changes in rows.items()]  # fmt: skip

    def _training(self, session: Session, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        return self.cells.get(f"adapter {name}", partial(self._train, session, name, changes))

    def _train(self, session: Session, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        training = with_adaptation(session, replace(session.config.adaptation, **changes))
        return {**asdict(training.train_adapter(self._folder(name))), "hardware": hardware()}

    def _folder(self, name: str) -> Path:
        return self.cells.folder / "adapters" / name.replace(" ", "-")

    def synthesizer(self, method: str, adapter: str) -> Synthesizer:
        """What draws a row's images."""
        found = self.session.synthesizer("dpe" if method == "adapted" else method)
        if not adapter:
            return found
        self._training(self.session, adapter, ADAPTERS[adapter])
        return replace(found, adapter=Adapter.of(str(self._folder(adapter))))

    # --- is it an attack? --------------------------------------------------------------------------------------------

    def survival(self) -> list[dict[str, Any]]:
        """What of the adapters' gain survives treatments, and convinces the judge."""
        return [{"adapter": name, **self.cells.get(f"survival {name}", partial(self._survival, name))}
                for name in SHOWN]  # fmt: skip

    def _survival(self, name: str) -> dict[str, Any]:
        adapter, session = self.synthesizer("adapted", name).adapter, self.session
        plan = self._in_own_domain()
        rows = survival_test(session.synthesizer("eda"), plan, NUM_SURVIVAL, session.judge, lambda count: None, adapter)
        return {"guided": gains(rows), "adapted": gains(rows, ADAPTED)}

    def _in_own_domain(self) -> PromptPlan:
        """DPE's prompts in the teacher's own domain, where guidance acts and adapters learn."""
        prompts = replace(self.session.prompts, id_share=1.0)
        return self.session.plan("prism", SEED, prompts)

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
        for method, adapter in (("dpe", ""), ("prism", ""), *(("adapted", name) for name in SHOWN)):
            yield self.synthesizer(method, adapter)


def main() -> None:
    """Measure the parts that are asked for, and record them with those that were recorded before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    chosen = parser.parse_args().part or PARTS
    measurements = Measurements(Session(load_config(ROOT / "configs" / "pictograms.toml")))
    for part in ("adapters", "survival", "collapse"):
        if part in chosen:
            found = getattr(measurements, part)()
            measurements.cells.record("adaptation", "python -m benchmarks.adaptation", [SEED], part, found)
    if "sheet" in chosen:
        measurements.sheet().save(ROOT / "docs" / "images" / "adaptation-sheet.png", optimize=True)


if __name__ == "__main__":
    main()
