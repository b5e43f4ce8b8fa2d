"""What the students of a page are measured by: top-1 on test images or, without these, agreement with the teacher."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prismkd.records.directory import HELD_OUT
from prismkd.records.scores import SHIFTED, Result, Score, score, shifted_domains, shifted_score


@dataclass(frozen=True)
class Yardstick:
    """A measure of students, and where it was taken.

    Attributes:
        metric: of the rows of results, "top1" or "agreement".
        domains: of the test images, the original one first; or of the held-out synthetic images.
        has_shifted: whether the mean over shifted domains is one of the places.
    """

    metric: str
    domains: tuple[str, ...]
    has_shifted: bool = False

    @property
    def is_accuracy(self) -> bool:
        """Whether it compares with the truth, and not with the teacher."""
        return self.metric == "top1"

    @property
    def name(self) -> str:
        """As a heading has it."""
        return "Top-1 accuracy" if self.is_accuracy else "Agreement with the teacher"

    @property
    def most(self) -> str:
        """What a sentence says of the best: as "reaches the most"."""
        return "reaches the most" if self.is_accuracy else "agrees with its teacher most"

    @property
    def places(self) -> tuple[str, ...]:
        """What a page's first sentence is about: the original domain and SHIFTED, or each kind of held-out images."""
        return ("id", SHIFTED)[: 1 + self.has_shifted] if self.is_accuracy else self.domains

    def of(self, results: list[Result], method: str, where: str) -> Score | None:
        """A method's score on a domain or under SHIFTED; None where it was not measured."""
        if where == SHIFTED:
            return shifted_score(results, method, self.metric)
        return score(results, method, where, self.metric)


def yardstick_of(results: Iterable[Result]) -> Yardstick:
    """Top-1 wherever there is any; agreement on held-out images where only that was measured."""
    results = list(results)
    held_out = {r.domain for r in results if r.metric == "agreement"}.intersection(HELD_OUT.values())
    if held_out and not any(r.metric == "top1" for r in results):
        return Yardstick("agreement", tuple(domain for domain in HELD_OUT.values() if domain in held_out))
    shifted = shifted_domains(results)
    return Yardstick("top1", ("id", *shifted), bool(shifted))
