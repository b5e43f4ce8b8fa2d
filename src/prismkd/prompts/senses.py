"""Semantic disambiguation: which wording of a class makes the generator draw what the teacher means.

The teacher is the judge (our design, beyond the paper): a few images of each candidate wording are drawn, and the
wording whose images the teacher gives the class most surely is kept. No real image is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prismkd.prompts.classes import ClassName


@dataclass(frozen=True)
class Sense:
    """The chosen wording of a class, with every candidate's score (mean log probability of the class)."""

    class_name: str
    text: str
    scores: dict[str, float]


def candidates(item: ClassName) -> list[str]:
    """Wordings to try: the name alone, and its definition where there is one."""
    return [item.name, _without_article(item.definition)] if item.definition else [item.name]


def _without_article(text: str) -> str:
    first, _, rest = text.partition(" ")
    return rest if first.lower() in ("a", "an", "the") and rest else text


def choose_senses(classes: Sequence[ClassName], score: Callable[[list[str], list[int]], Tensor]) -> list[Sense]:
    """Pick each class's best wording.

    Args:
        classes: the class list.
        score: takes wordings and their class indices, returns the mean log probability that the teacher gives
            the class on images of each wording.
    """
    wordings = [(index, text) for index, item in enumerate(classes) for text in candidates(item)]
    scores = score([text for _, text in wordings], [index for index, _ in wordings])
    senses = []
    for index, item in enumerate(classes):
        own = {text: float(s) for (i, text), s in zip(wordings, scores, strict=True) if i == index}
        senses.append(Sense(item.name, max(own, key=lambda text: own[text]), own))
    return senses


def unjudged_senses(classes: Sequence[ClassName]) -> list[Sense]:
    """Names as they are."""
    return [Sense(item.name, item.name, {}) for item in classes]


def defined_senses(classes: Sequence[ClassName]) -> list[Sense]:
    """Definitions as the user gave them, names where there are none."""
    return [Sense(item.name, candidates(item)[-1], {}) for item in classes]


def mean_log_probability(logits: Tensor, labels: Tensor, num_probes: int) -> Tensor:
    """(wordings * num_probes, classes) logits to the mean log probability of each wording's class."""
    log_probability = torch.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)
    return log_probability.view(-1, num_probes).mean(dim=1)
