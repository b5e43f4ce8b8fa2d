"""By how much one student stands above another on the same test images, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prismkd.records.results import EVERY_SEED, RunResults
from prismkd.records.scores import SHIFTED, Score, best, difference
from prismkd.records.verdict import DomainComparison, compare_hits
from prismkd.report.yardstick import yardstick_of

Rows = Mapping[Any, tuple[RunResults, str]]  # key of a table's row -> its run, and its method


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
    """The page's measure of ``student`` minus that of ``rival``, wherever both were tested, and under ``SHIFTED``."""
    yardstick, verdicts = yardstick_of(run.results), _verdicts(run, student, rival)
    means: dict[str, tuple[Score | None, Score | None]] = {
        where: (yardstick.of(run.results, student, where), yardstick.of(run.results, rival, where))
        for where in (*yardstick.domains, SHIFTED)
    }
    return {
        where: Margin(difference(ours, theirs).mean, verdicts.get(where))
        for where, (ours, theirs) in means.items()
        if ours and theirs
    }


def _verdicts(run: RunResults, student: str, rival: str) -> dict[str, DomainComparison]:
    """Empty where the student has seeds that the rival lacks: the means then rest on more than can be paired."""
    ours, theirs = run.hits(student), run.hits(rival)
    if theirs.keys() != {EVERY_SEED} and not ours.keys() <= theirs.keys():
        return {}
    return verdicts_of((run, student), (run, rival))


def verdicts_of(student: tuple[RunResults, str], rival: tuple[RunResults, str]) -> dict[str, DomainComparison]:
    """``student`` against ``rival``, as ``prismkd compare`` does it, wherever hits can be paired, and under SHIFTED."""
    verdicts = compare_hits(*(run.hits(method) for run, method in (rival, student)))
    return verdicts.domains | ({SHIFTED: verdicts.shifted} if verdicts.shifted else {})


def leaders(rows: Rows, scores: Mapping[Any, Mapping[str, Score | None]]) -> dict[str, set[Any]]:
    """Who is marked in a table: for each place the highest mean, and whoever can't be told apart from it.

    Args:
        rows: of the table, without those that may not be marked.
        scores: by row and place, a domain or SHIFTED.
    """
    known: dict[Any, dict[Any, dict[str, DomainComparison]]] = {}
    marked = {}
    for where in dict.fromkeys(place for of_row in scores.values() for place in of_row):
        at = {key: scores[key].get(where) for key in rows}
        first = best(at, references=())
        leader = next(iter(sorted(first, key=str)), None)
        if leader is not None and leader not in known:
            known[leader] = {key: verdicts_of(rows[leader], rows[key]) for key in rows if key != leader}
        level = {
            key for key, found in (known[leader] if leader is not None else {}).items()
            if at[key] and where in found and not (found[where].significant and found[where].difference > 0)
        }  # fmt: skip
        marked[where] = first | level
    return marked
