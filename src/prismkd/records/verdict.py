"""Which of two students is better on the same test images, and could it be chance? The one place that decides it.

B is called better than A where both a test and an interval say so: the exact sign test over images, corrected for the
number of domains (Holm), has p < 0.05, and the 95 % bootstrap interval of the difference over images and seeds leaves
out zero. The test alone would take the luck of one training for a better method; the interval alone isn't exact where
few images differ. What can't be paired has no verdict here: hits that weren't kept, hits of other images, or of one
alone. There a page shows means alone, untested; where ``report/ranking.py`` lets the higher mean lead, it says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prismkd.metrics.hits import domain_order
from prismkd.metrics.paired import holm, paired_interval, sign_test
from prismkd.records.results import EVERY_SEED, Hits
from prismkd.records.scores import NOT_SHIFTED

LEVEL = 0.05  # of significance, after the correction for several domains
MEAN_SHIFTED = "the mean of shifted domains"


@dataclass(frozen=True)
class DomainComparison:
    """B against A on the images of a domain; accuracies and differences are fractions.

    Where there are no test images, the domains are held-out synthetic ones, and instead of the accuracy it is the
    agreement with the teacher.

    Attributes:
        domain: its name.
        num_images: test images.
        top1_a: A's mean over images and seeds.
        top1_b: B's.
        difference: B's minus A's.
        interval: 95 %, over images and seeds.
        b_better: images that B gets right under more seeds than A.
        a_better: images that A does.
        p: of the exact sign test over images.
        p_holm: corrected for the number of domains.
    """

    domain: str
    num_images: int
    top1_a: float
    top1_b: float
    difference: float
    interval: tuple[float, float]
    b_better: int
    a_better: int
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether one of the two is better: by the test over images and the interval over images and seeds."""
        return self.p_holm < LEVEL and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Verdicts:
    """B against A, over the seeds that both have.

    Attributes:
        domains: on every domain that both were tested on with the same images, ``id`` first.
        shifted: on the mean of the shifted domains, each of which weighs the same; None where not all can be compared.
    """

    domains: dict[str, DomainComparison]
    shifted: DomainComparison | None


def compare_hits(a: Hits, b: Hits) -> Verdicts:
    """B against A, as far as their hits can be paired by image and seed."""
    a, b = _of_shared_seeds(a, b)
    pairs = {domain: _paired(a, b, domain) for domain in domain_order(d for hits in a.values() for d in hits)}
    rows = [_compare(domain, *pair) for domain, pair in pairs.items() if pair]
    # Asked of twenty domains, one would be "better" by chance at p < 0.05
    corrected = holm([row.p for row in rows])
    domains = {row.domain: replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)}
    return Verdicts(domains, _compare_shifted(a, b, domains))


def _compare_shifted(a: Hits, b: Hits, domains: dict[str, DomainComparison]) -> DomainComparison | None:
    """Where there is one shifted domain, the comparison there.

    Else Holm's correction is for the two questions that a page answers first: the original domain, and the shifted ones
    together.
    """
    shifted = [domain for domain in domains if domain not in NOT_SHIFTED]
    if not shifted or any(hits.keys() - set(NOT_SHIFTED) != set(shifted) for hits in (*a.values(), *b.values())):
        return None  # the mean over other domains would be another number
    if len(shifted) == 1:
        return domains[shifted[0]]
    pairs = [pair for domain in shifted if (pair := _paired(a, b, domain))]
    counts = [hits.shape[1] for hits, _ in pairs]
    # Mean over D domains of the mean over their n images = mean over all N images, each weighed N / (D n)
    weights = np.concatenate([np.full(count, sum(counts) / (len(counts) * count)) for count in counts])
    joined_a, joined_b = (np.concatenate(side, axis=1) for side in zip(*pairs, strict=True))
    row = _compare(MEAN_SHIFTED, joined_a, joined_b, weights)
    questions = [row.p, *(domains[name].p for name in ("id",) if name in domains)]
    return replace(row, p_holm=holm(questions)[0])


def _of_shared_seeds(a: Hits, b: Hits) -> tuple[Hits, Hits]:
    """The seeds that both have, in A's order; the teacher is the same for all."""
    if a.keys() == {EVERY_SEED}:
        a = dict.fromkeys(b, a[EVERY_SEED])
    if b.keys() == {EVERY_SEED}:
        b = dict.fromkeys(a, b[EVERY_SEED])
    shared = [seed for seed in a if seed in b]
    return {seed: a[seed] for seed in shared}, {seed: b[seed] for seed in shared}


def _paired(a: Hits, b: Hits, domain: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A's hits and B's (num_seeds, num_images) on a domain; None where not all of them are of the same images."""
    rows = [hits.get(domain) for side in (a, b) for hits in side.values()]
    known = [row for row in rows if row is not None and row.images]
    if not known or len(known) < len(rows) or len({(row.images, len(row.hits)) for row in known}) > 1:
        return None
    if len(known[0].hits) < 2:
        return None  # no interval can be drawn from one image
    hits = np.stack([row.hits for row in known])
    return hits[: len(a)], hits[len(a) :]


def _compare(domain: str, a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> DomainComparison:
    """Hits (num_seeds, num_images) of both; ``weights`` (num_images,), whose mean is 1, of the images in all means."""
    differences = b - a
    sums = differences.sum(axis=0, dtype=np.int64)  # in int8 they would overflow
    weights = np.ones(a.shape[1], np.int64) if weights is None else weights
    p = sign_test(differences)
    return DomainComparison(
        domain=domain,
        num_images=a.shape[1],
        top1_a=float((a * weights).mean()),
        top1_b=float((b * weights).mean()),
        difference=float((differences * weights).mean()),
        interval=paired_interval(differences * weights, seed=0),
        b_better=int((sums > 0).sum()),
        a_better=int((sums < 0).sum()),
        p=p,
        p_holm=p,
    )
