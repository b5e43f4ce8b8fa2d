"""Which class a student gives for which: counts of a run's students, against the truth and against the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prismkd.errors import UserError
from prismkd.records.directory import remedy_of
from prismkd.records.results import EVALUATION, RunResults
from prismkd.records.scores import subject

Counts = NDArray[np.float64]  # (classes, classes): rows what it should be, columns what the student says


@dataclass(frozen=True)
class Confusion:
    """One student's counts by seed, lowest first; ``against``: whose classes the rows are, "truth" or "teacher"."""

    method: str
    against: str
    by_seed: list[Counts]

    @cached_property
    def counts(self) -> Counts:
        """All seeds together."""
        return np.sum(self.by_seed, axis=0)

    @property
    def shares(self) -> Counts:
        """(classes,): of each row the share on the diagonal; NaN where a row has no image."""
        totals = self.counts.sum(axis=1)
        return np.divide(np.diag(self.counts), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    @cached_property
    def images(self) -> Counts:
        """(classes,): test images of each row, the mean over seeds."""
        return self.counts.sum(axis=1) / len(self.by_seed)

    def worst(self, count: int) -> list[int]:
        """Classes with test images, those with the smallest share on the diagonal first."""
        shares = self.shares
        order = np.argsort(shares, kind="stable")  # NaN last
        return [int(label) for label in order[:count] if np.isfinite(shares[label])]

    def most_mistaken_for(self, label: int) -> tuple[int, float] | None:
        """The wrong class that ``label`` is taken for most, and its share of the row; None where all are right."""
        row = self.counts[label].copy()
        total, row[label] = row.sum(), 0
        answer = int(row.argmax())
        return (answer, float(row[answer] / total)) if row[answer] > 0 else None

    def vanished(self) -> dict[int, int]:
        """Classes with test images that the student never answers with, and in how many seeds."""
        vanished = [(counts.sum(axis=0) == 0) & (counts.sum(axis=1) > 0) for counts in self.by_seed]
        num_seeds = np.sum(vanished, axis=0)
        return {int(label): int(num_seeds[label]) for label in np.flatnonzero(num_seeds)}


def confusion_of(run: RunResults, method: str, against: str = "truth") -> Confusion | None:
    """Counts of one method's students; None where the run has none."""
    by_seed = []
    for document in run.evaluations(method):
        counts = document.get("confusion") if against == "truth" else document.get("confusion_teacher")
        if counts:  # none of very many classes
            _check_square(counts, len(run.classes), method, run.folder)
            by_seed.append(np.asarray(counts, dtype=np.float64))
    return Confusion(method, against, by_seed) if by_seed else None


def _check_square(counts: list[list[int]], num_classes: int, method: str, folder: Path) -> None:
    if {len(counts), *map(len, counts)} != {num_classes}:
        path = folder / "seed-*" / method / EVALUATION
        raise UserError(
            f"expected counts of {num_classes} x {num_classes} classes in {path}, got others; {remedy_of(path)}"
        )


def main_confusion(run: RunResults, against: str = "truth") -> Confusion | None:
    """Counts of the student that the page is about, or else of the first one that has them."""
    student, _ = subject(run.results)
    candidates = (confusion_of(run, method, against) for method in dict.fromkeys((student, *run.folders)))
    return next(filter(None, candidates), None)
