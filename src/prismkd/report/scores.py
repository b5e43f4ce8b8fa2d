"""Rows of metrics.json -> means over seeds, with their spread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

REFERENCES = ("real", "teacher", "real-vs-real")  # they have seen real data, so they are never "best"
METHOD_ORDER = ("plain", "more", "eda", "dpe", "prism", *REFERENCES)
NOT_SHIFTED = ("id", "images")


@dataclass(frozen=True)
class Result:
    """One row of metrics.json: a number, what it measures, and its 95% interval over the test images."""

    method: str
    seed: int
    domain: str
    metric: str
    value: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Score:
    """A mean over seeds.

    `spread` is the sample standard deviation over seeds (None with one seed);
    `interval` is what a whisker shows: mean -+ spread, or the 95% interval of the only seed where the row has one.
    """

    mean: float
    spread: float | None
    interval: tuple[float, float] | None
    by_seed: dict[int, float]


def methods(results: Iterable[Result]) -> list[str]:
    """Methods that occur: data-free ones first, then other names by alphabet, references last."""
    found = {result.method for result in results}
    own = [m for m in METHOD_ORDER if m in found and m not in REFERENCES]
    return [*own, *sorted(found - set(METHOD_ORDER)), *(m for m in REFERENCES if m in found)]


def shifted_domains(results: Iterable[Result]) -> list[str]:
    """Domains with a top-1 besides "id", in file order."""
    return list(dict.fromkeys(r.domain for r in results if r.metric == "top1" and r.domain not in NOT_SHIFTED))


def score(results: Iterable[Result], method: str, domain: str, metric: str = "top1") -> Score | None:
    """Mean over seeds of one metric of one method on one domain; None where it was not measured."""
    rows = [r for r in results if (r.method, r.domain, r.metric) == (method, domain, metric)]
    interval = rows[0].ci95 if len(rows) == 1 else None
    return _over_seeds({r.seed: r.value for r in rows}, interval)


def shifted_score(results: list[Result], method: str, metric: str = "top1") -> Score | None:
    """Mean over seeds of the unweighted mean over shifted domains.

    A seed that lacks one of the domains is left out: its mean would not compare with the others'.
    """
    domains = shifted_domains(results)
    scores = [score(results, method, domain, metric) for domain in domains]
    if not domains or any(s is None for s in scores):
        return None
    per_domain = [s.by_seed for s in scores if s is not None]
    complete = set.intersection(*(set(values) for values in per_domain))
    return _over_seeds({seed: fmean(values[seed] for values in per_domain) for seed in sorted(complete)}, None)


def difference(student: Score, rival: Score) -> Score:
    """student - rival, paired by seed; of the means where no seed is shared (the teacher has only one)."""
    shared = sorted(student.by_seed.keys() & rival.by_seed.keys())
    pairs = {seed: student.by_seed[seed] - rival.by_seed[seed] for seed in shared}
    return _mean_over_seeds(pairs or {0: student.mean - rival.mean}, None)


def best(scores: dict[str, Score | None], choose: Callable[[Iterable[float]], float] = max) -> set[str]:
    """Data-free methods with the best mean (ties included); empty where there is nothing to compare."""
    means = {m: s.mean for m, s in scores.items() if s is not None and m not in REFERENCES}
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
    spread = stdev(by_seed.values())
    return Score(mean, spread, (mean - spread, mean + spread), by_seed)
