"""The plan: index -> (class, sense, content, style, seed), a pure function. Nothing of size N is held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from prismkd.errors import UserError
from prismkd.prompts.grammar import compose
from prismkd.prompts.styles import Style

# The additive recurrence with low discrepancy in two dimensions: 1 / g and 1 / g^2 with g^3 = g + 1 (Roberts 2018).
CONTENT_STEP, STYLE_STEP = 0.7548776662466927, 0.5698402909980532
GOLDEN, SILVER = 0.6180339887498949, 0.41421356237309515  # so that classes differ in what they have at one turn
PROBE_SEED = 7_000_000  # of images that the teacher looks at before anything is decided: far from the runs' own
CYCLE = 32  # prompts per class, on average, in one round of an uneven allocation


@dataclass(frozen=True)
class Prompt:
    """Everything that determines one image."""

    index: int
    label: int
    class_name: str
    text: str
    style: str
    seed: int
    sense: str = ""


@dataclass(frozen=True)
class Subject:
    """What is drawn of one class.

    Attributes:
        class_name: the label's name.
        text: the class in its sense.
        contents: phrases with ``{}`` for the text.
        weights: of the plan's styles; they add up to 1.
    """

    class_name: str
    text: str
    contents: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class PromptPlan:
    """How prompts are made from an index.

    Attributes:
        subjects: one per class, in the order of the labels.
        styles: what the subjects' weights are of.
        seed: the run's seed; image i has the same noise in every method.
        pilot: prompts, a multiple of the number of classes, that go to all classes alike.
        shares: of the classes after the pilot; they add up to 1. Empty: all alike.
        later: the subjects after the pilot. Empty: the same.
    """

    subjects: tuple[Subject, ...]
    styles: tuple[Style, ...]
    seed: int
    pilot: int = 0
    shares: tuple[float, ...] = ()
    later: tuple[Subject, ...] = ()

    def __getitem__(self, index: int) -> Prompt:
        """Prompt ``index``: classes in turn, so that every prefix is balanced; contents and styles spread evenly."""
        label, turn = self._turn(index)
        subject = (self.later or self.subjects)[label] if index >= self.pilot else self.subjects[label]
        content = subject.contents[int((turn * CONTENT_STEP + label * SILVER) % 1.0 * len(subject.contents))]
        style = self._style(subject, (turn * STYLE_STEP + label * GOLDEN) % 1.0)
        text = compose(style.phrase, content, subject.text)
        return Prompt(index, label, subject.class_name, text, style.name, image_seed(self.seed, index), subject.text)

    def _turn(self, index: int) -> tuple[int, int]:
        """The label of a prompt, and how many prompts of that label came before."""
        num_classes = len(self.subjects)
        if index < self.pilot or not self.shares:
            return index % num_classes, index // num_classes
        order, quotas = self._round
        rounds, place = divmod(index - self.pilot, len(order))
        label, earlier = order[place]
        return label, self.pilot // num_classes + rounds * quotas[label] + earlier

    @cached_property
    def _round(self) -> tuple[list[tuple[int, int]], list[int]]:
        """One round of the uneven part: (label, earlier prompts of it) in an order that spreads every label evenly."""
        total = CYCLE * len(self.shares)
        quotas = _rounded([share * total for share in self.shares], total)
        places = [((turn + 0.5) / quota, label, turn) for label, quota in enumerate(quotas) for turn in range(quota)]
        return [(label, turn) for _, label, turn in sorted(places)], quotas

    def _style(self, subject: Subject, position: float) -> Style:
        """The style whose share of [0, 1) holds ``position``."""
        for style, end in zip(self.styles, accumulate(subject.weights), strict=True):
            if position < end:
                return style
        return max(zip(subject.weights, self.styles, strict=True), key=lambda pair: pair[0])[1]  # sums to 1 - 1e-16

    def allocated(self, pilot: int, shares: Sequence[float], factors: Sequence[float]) -> PromptPlan:
        """This plan up to ``pilot``; after it ``shares`` of the classes, and style weights times ``factors``."""
        later = []
        for subject in self.subjects:
            weights = [weight * factor for weight, factor in zip(subject.weights, factors, strict=True)]
            later.append(replace(subject, weights=tuple(weight / sum(weights) for weight in weights)))
        return replace(self, pilot=pilot, shares=tuple(shares), later=tuple(later))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PromptPlan:
        """The inverse of ``to_dict``."""
        first, later = (tuple(map(_subject, data[name])) for name in ("subjects", "later"))
        styles = tuple(Style(**row) for row in data["styles"])
        return cls(first, styles, data["seed"], data["pilot"], tuple(data["shares"]), later)

    def hash(self) -> str:
        """A digest of everything that determines the prompts and seeds."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _subject(row: dict[str, Any]) -> Subject:
    return Subject(row["class_name"], row["text"], tuple(row["contents"]), tuple(row["weights"]))


def _rounded(values: Sequence[float], total: int) -> list[int]:
    """Whole numbers near ``values`` that add up to ``total``, each at least 1 (largest remainders)."""
    whole = [max(1, int(value)) for value in values]
    by_remainder = sorted(range(len(values)), key=lambda i: whole[i] - values[i])
    while sum(whole) < total:
        for i in by_remainder[: total - sum(whole)]:
            whole[i] += 1
    while sum(whole) > total:
        whole[whole.index(max(whole))] -= 1
    return whole


def image_seed(run_seed: int, index: int) -> int:
    """A 63-bit seed of one image."""
    digest = hashlib.sha256(f"{run_seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check_budget(num_images: int, num_classes: int) -> None:
    """Every class needs an image.

    Raises:
        UserError: there are fewer images than classes.
    """
    if num_images < num_classes:
        raise UserError(
            f"expected at least one image per class, {num_classes}, got {num_images}; raise the number of images"
        )
