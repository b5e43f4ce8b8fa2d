"""By how much one student stands above another on the same test images, with an interval where each hit is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prismkd.metrics import paired_interval
from prismkd.metrics.hits import unpack_hits
from prismkd.records.results import Run
from prismkd.records.scores import difference, score

ALL_SEEDS = -1  # the teacher's: it is the same for every student


@dataclass(frozen=True)
class Margin:
    """A difference of accuracies, as a fraction; ``interval`` is its 95% one over images and seeds, or None."""

    mean: float
    interval: tuple[float, float] | None = None

    @property
    def sure(self) -> bool:
        """Whether an interval is known and leaves no doubt about the side."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def margin(run: Run, student: str, rival: str, domain: str) -> Margin | None:
    """Top-1 of ``student`` minus that of ``rival``, paired by image and seed; None where either was not tested."""
    ours, theirs = (score(run.results, method, domain) for method in (student, rival))
    if ours is None or theirs is None:
        return None
    mean = difference(ours, theirs).mean
    pairs = _paired(_details(run, student, domain), _details(run, rival, domain))
    return Margin(mean, paired_interval(np.stack(pairs), seed=0) if pairs and pairs[0].size > 1 else None)


def _paired(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]]) -> list[np.ndarray]:
    """Differences of hits (num_images,) of every seed that both have; the teacher is the same for all seeds."""
    if theirs.keys() == {ALL_SEEDS}:
        theirs = dict.fromkeys(ours, theirs[ALL_SEEDS])
    shared = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    if len(shared) < len(ours) or any(a["images"] != b["images"] for a, b in shared):
        return []
    return [unpack_hits(a["hits"], a["n"]) - unpack_hits(b["hits"], b["n"]) for a, b in shared]


def _details(run: Run, method: str, domain: str) -> dict[int, dict[str, Any]]:
    """What evaluation.json says of each seed's hits on a domain; the teacher's stand in references.json."""
    paths = {int(folder.parent.name[5:]): folder / "evaluation.json" for folder in run.folders.get(method, [])}
    if method == "teacher":
        paths = {ALL_SEEDS: run.folder / "references.json"}
    found = {seed: ((run.document(path) or {}).get("domains") or {}).get(domain) for seed, path in paths.items()}
    return {seed: details for seed, details in found.items() if details and details.get("hits")}
