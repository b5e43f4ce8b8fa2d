"""By how much one student stands above another on the same test images, and whether that could be chance."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.records.results import EVERY_SEED, RunResults
from prismkd.records.scores import SHIFTED, Score, difference, score, shifted_domains, shifted_score
from prismkd.records.verdict import DomainComparison, compare_hits


@dataclass(frozen=True)
class Margin:
    """A difference of accuracies, as a fraction; ``verdict`` is None where the hits of both aren't known."""

    mean: float
    verdict: DomainComparison | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, over images and seeds."""
        return self.verdict.interval if self.verdict else None

    @property
    def significant(self) -> bool:
        """Whether one of the two is better, as ``prismkd compare`` would say."""
        return self.verdict is not None and self.verdict.significant

    @property
    def may_be_chance(self) -> bool:
        """Whether both were compared image by image, and neither is better."""
        return self.verdict is not None and not self.verdict.significant

    @property
    def tone(self) -> str:
        """The CSS class that colors it: none where it may be chance."""
        return ("ahead" if self.mean > 0 else "behind") if self.significant else ""


def margins(run: RunResults, student: str, rival: str) -> dict[str, Margin]:
    """Top-1 of ``student`` minus that of ``rival``, on every domain where both were tested and under ``SHIFTED``."""
    verdicts = _verdicts(run, student, rival)
    means: dict[str, tuple[Score | None, Score | None]] = {
        domain: (score(run.results, student, domain), score(run.results, rival, domain))
        for domain in ["id", *shifted_domains(run.results)]
    }
    means[SHIFTED] = shifted_score(run.results, student), shifted_score(run.results, rival)
    return {
        domain: Margin(difference(ours, theirs).mean, verdicts.get(domain))
        for domain, (ours, theirs) in means.items()
        if ours and theirs
    }


def _verdicts(run: RunResults, student: str, rival: str) -> dict[str, DomainComparison]:
    """Empty where the student has seeds that the rival lacks: the means then rest on more than can be paired."""
    ours, theirs = run.hits(student), run.hits(rival)
    if theirs.keys() != {EVERY_SEED} and not ours.keys() <= theirs.keys():
        return {}
    verdicts = compare_hits(theirs, ours)
    return verdicts.domains | ({SHIFTED: verdicts.shifted} if verdicts.shifted else {})
