"""Rows of metrics.json -> means over seeds, with their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

from prismkd.config.methods import REFERENCES, ROWS
from prismkd.records.directory import HELD_OUT

SHIFTED = "shifted"  # stands for the mean over the shifted domains where a domain is named
# The teacher's own domain; the image sets, which stand among the rows as a domain; synthetic images instead of a test
NOT_SHIFTED = ("id", "images", *HELD_OUT.values())
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Result:
    """One row of metrics.json: a number, what it measures, its 95% interval, and the number of test images."""

    method: str
    seed: int
    domain: str
    metric: str
    value: float
    ci95: tuple[float, float] | None = None
    n: int = 0


@dataclass(frozen=True)
class Score:
    """A mean over seeds.

    Attributes:
        mean: over seeds.
        spread: the sample standard deviation over seeds; None with one seed.
        interval: for a whisker: mean -+ spread, or the 95% interval of the only seed where the row has one.
        by_seed: the values.
    """

    mean: float
    spread: float | None
    interval: tuple[float, float] | None
    by_seed: dict[int, float]


def methods(results: Iterable[Result]) -> list[str]:
    """Methods that occur: data-free ones first, then other names by alphabet, references last."""
    present = {result.method for result in results}
    data_free = [m for m in ROWS if m in present and m not in REFERENCES]
    return [*data_free, *sorted(present - set(ROWS)), *(m for m in REFERENCES if m in present)]


def subject(results: Iterable[Result], domain: str | None = None) -> tuple[str, str | None]:
    """The method that a page is about, and plain prompts as its rival where the run has both.

    PRISM where it was measured, else the first data-free method, else a reference; "" where there is none. With
    `domain`, only methods that were measured there count.
    """
    everyone = methods(r for r in results if domain in (None, r.domain))
    data_free = [method for method in everyone if method not in REFERENCES]
    student = "prism" if "prism" in data_free else next(iter(data_free or everyone), "")
    return student, "plain" if "plain" in data_free and student != "plain" else None


def ceiling_of(results: list[Result]) -> str | None:
    """Which rows are the ceiling of image metrics: real against real where measured, else the real training images."""
    return next((m for m in ("real-vs-real", "real") if score(results, m, "images", "precision")), None)


def image_methods(results: list[Result]) -> list[str]:
    """Methods with metrics of their images; real images are left out where they are the ceiling's very images."""
    measured = methods(r for r in results if r.domain == "images")
    pair = [score(results, m, "images", "precision") for m in ("real", "real-vs-real")]
    same = pair[0] and pair[1] and abs(pair[0].mean - pair[1].mean) < 1e-9
    return [m for m in measured if m != "real" or not same]


def shifted_domains(results: Iterable[Result]) -> list[str]:
    """Domains with a top-1 besides ``id``, in the order of the file."""
    return list(dict.fromkeys(r.domain for r in results if r.metric == "top1" and r.domain not in NOT_SHIFTED))


def score(results: Iterable[Result], method: str, domain: str, metric: str = "top1") -> Score | None:
    """Mean over seeds of one metric of one method on one domain; None where it was not measured."""
    rows = [r for r in results if (r.method, r.domain, r.metric) == (method, domain, metric)]
    # A row's interval is over test images; with several seeds their spread says more, since it has the training in it
    interval = rows[0].ci95 if len(rows) == 1 else None
    return _over_seeds({r.seed: r.value for r in rows}, interval)


def shifted_score(results: list[Result], method: str, metric: str = "top1") -> Score | None:
    """Mean over seeds of the unweighted mean over shifted domains: the largest one would decide a weighted mean.

    A seed that lacks one of the domains is left out: its mean would not compare with the others'.
    """
    domains = shifted_domains(results)
    scores = [s for domain in domains if (s := score(results, method, domain, metric))]
    if not domains or len(scores) < len(domains):
        return None
    complete = set.intersection(*(set(s.by_seed) for s in scores))
    means = {seed: fmean(s.by_seed[seed] for s in scores) for seed in sorted(complete)}
    return _over_seeds(means, _interval_of_mean(scores) if len(means) == 1 else None)


def _interval_of_mean(scores: list[Score]) -> tuple[float, float] | None:
    """95% interval of an unweighted mean; its parts rest on other test images, so half-widths add in squares."""
    intervals = [(s.mean, s.interval) for s in scores if s.interval]
    if len(intervals) < len(scores):
        return None
    mean = fmean(value for value, _ in intervals)
    below, above = (math.hypot(*(value - bounds[side] for value, bounds in intervals)) for side in (0, 1))
    return mean - below / len(scores), mean + above / len(scores)


def difference(student: Score, rival: Score) -> Score:
    """student - rival, paired by seed; of the means where no seed is shared (the teacher has only one)."""
    shared = sorted(student.by_seed.keys() & rival.by_seed.keys())
    if len(rival.by_seed) == 1:  # not a student of that seed, but a reference for all of them
        shared = []
    pairs = {seed: student.by_seed[seed] - rival.by_seed[seed] for seed in shared}
    return _mean_over_seeds(pairs or {0: student.mean - rival.mean}, None)


def best(
    scores: Mapping[Key, Score | None],
    choose: Callable[[Iterable[float]], float] = max,
    references: Collection[Key] | tuple[str, ...] = REFERENCES,
) -> set[Key]:
    """Data-free methods with the best mean (ties included); empty where there is nothing to compare."""
    means = {m: s.mean for m, s in scores.items() if s is not None and m not in references}
    if len(means) < 2:
        return set()
    top = choose(means.values())
    return {method for method, mean in means.items() if mean == top}


def _over_seeds(by_seed: dict[int, float], interval: tuple[float, float] | None) -> Score | None:
    return _mean_over_seeds(by_seed, interval) if by_seed else None


def _mean_over_seeds(by_seed: dict[int, float], interval: tuple[float, float] | None) -> Score:
    mean = fmean(by_seed.values())
    if len(by_seed) == 1:
        return Score(mean, None, interval, by_seed)
    spread = stdev(by_seed.values())  # divided by n - 1: the seeds are a sample of all trainings
    return Score(mean, spread, (mean - spread, mean + spread), by_seed)
