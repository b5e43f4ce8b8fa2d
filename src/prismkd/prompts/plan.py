"""The plan: index -> (class, sense, content, style, seed), a pure function. Nothing of size N is held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prismkd.prompts.classes import ClassName
from prismkd.prompts.content import contents
from prismkd.prompts.senses import Sense, unjudged_senses
from prismkd.prompts.styles import Style, style_bank

GOLDEN = 0.6180339887498949  # the additive recurrence with the lowest discrepancy in one dimension


@dataclass(frozen=True)
class Prompt:
    """Everything that determines one image."""

    index: int
    label: int
    class_name: str
    text: str
    style: str
    seed: int


@dataclass(frozen=True)
class PromptPlan:
    """How prompts are made from an index.

    Attributes:
        senses: one wording per class.
        attributes: content templates, used in turn.
        styles: styles with weights that add up to 1.
        seed: the run's seed; image i has the same noise in every method.
    """

    senses: tuple[Sense, ...]
    attributes: tuple[str, ...]
    styles: tuple[Style, ...]
    seed: int

    def __getitem__(self, index: int) -> Prompt:
        """Prompt ``index``: classes in turn, so that every prefix is balanced; styles spread by weight."""
        num_classes = len(self.senses)
        label, turn = index % num_classes, index // num_classes
        sense = self.senses[label]
        style = self._style((turn * GOLDEN + label / num_classes) % 1.0)
        subject = self.attributes[turn % len(self.attributes)].replace("{}", sense.text)
        text = style.phrase.replace("{}", subject)
        return Prompt(index, label, sense.class_name, text, style.name, image_seed(self.seed, index))

    def _style(self, position: float) -> Style:
        """The style whose share of [0, 1) holds ``position``."""
        total = 0.0
        for style in self.styles:
            total += style.weight
            if position < total:
                return style
        return self.styles[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PromptPlan:
        """The inverse of ``to_dict``."""
        senses = tuple(Sense(**row) for row in data["senses"])
        styles = tuple(Style(**row) for row in data["styles"])
        return cls(senses, tuple(data["attributes"]), styles, data["seed"])

    def hash(self) -> str:
        """A digest of everything that determines the prompts and seeds."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def image_seed(run_seed: int, index: int) -> int:
    """A 63-bit seed of one image."""
    digest = hashlib.sha256(f"{run_seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_plan(senses: Sequence[Sense], seed: int, *, diversified: bool, template: str, id_share: float) -> PromptPlan:
    """The plan of a method: the senses in one template, or in DPE's contents and styles as well."""
    if diversified:
        return PromptPlan(tuple(senses), tuple(contents()), tuple(style_bank(id_share)), seed)
    return PromptPlan(tuple(senses), ("{}",), (Style("plain", template.replace("{name}", "{}"), 1.0),), seed)


def plain_plan(classes: Sequence[ClassName], seed: int, template: str) -> PromptPlan:
    """The plan of class names in one template: what calibration, tests of guidance and plain methods draw."""
    return make_plan(unjudged_senses(classes), seed, diversified=False, template=template, id_share=1.0)
