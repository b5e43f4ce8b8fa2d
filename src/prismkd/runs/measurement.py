"""All measurements of a run: its students and image sets, the teacher, and real images against real images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch

from prismkd.data import LabelledImages
from prismkd.records.directory import LABELS_STUDENT, STUDENT
from prismkd.evaluation.rows import BATCH, Batches, Row
from prismkd.evaluation.students import StudentEvaluation, domain_order, evaluate_student, logits_of
from prismkd.evaluation.images import JudgedImages, compare_images, judge_images, labeled_batches, split_halves
from prismkd.runs.run import Run
from prismkd.shards import read_encoded, to_array, whole
from prismkd.shards.samples import decode
from prismkd.classifiers import Classifier

CEILING = "real-vs-real"


@dataclass(frozen=True)
class Measurement:
    """The test images with what all methods of a run are compared with, each computed when it is first needed."""

    run: Run

    @cached_property
    def test(self) -> LabelledImages:
        """All test images, every one of which decodes."""
        self.run.test.check()
        return self.run.test

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each domain's images: only runs with the same ones can be compared."""
        return {domain: self.test.domain(domain).fingerprint() for domain in domain_order(self.test.domains)}

    @cached_property
    def teacher_logits(self) -> np.ndarray:
        """The teacher's of all test images."""
        return logits_of(self.run.teacher, self.test)

    @cached_property
    def held_out(self) -> JudgedImages:
        """The real images of the teacher's own domain."""
        assert self.run.judge is not None
        images = self.test.domain("id")
        images = images.subset(_chosen(len(images), self.run.config.evaluation.max_images))
        return judge_images(labeled_batches(images), self.run.teacher, self.run.judge)

    def evaluate(self, seed: int, method: str) -> dict[str, Any]:
        """One student, and the images that it learned from."""
        run, config = self.run, self.run.config.evaluation
        found = self._students(run.load_student(run.folder(seed, method) / STUDENT), method, seed)
        rows = found.rows
        if config.cas:
            of_labels = self._students(run.load_student(run.folder(seed, method) / LABELS_STUDENT), method, seed)
            rows = rows + [replace(row, metric="cas") for row in of_labels.rows if row.metric == "top1"]
        if run.judge is not None:
            seen = judge_images(_training_batches(run, seed, method), run.teacher, run.judge)
            rows = rows + compare_images(seen, self.held_out, config.nearest_k, method, seed)
        return {
            "results": [row.to_dict() for row in rows],
            "confusion": found.confusion,
            "confusion_teacher": found.confusion_teacher,
            "domains": self._with_fingerprints(found.domains),
        }

    def references(self) -> dict[str, Any]:
        """The teacher itself, and real images against real images: the most that an image set can reach."""
        found = self._students(self.run.teacher, "teacher", 0)
        rows = found.rows + ([] if self.run.judge is None else self._ceiling())
        return {"results": [row.to_dict() for row in rows], "domains": self._with_fingerprints(found.domains)}

    def _students(self, student: Classifier, method: str, seed: int) -> StudentEvaluation:
        share = self.run.config.evaluation.restrict_below
        return evaluate_student(student, self.run.teacher, self.test, method, seed, self.teacher_logits, share)

    def _ceiling(self) -> list[Row]:
        """Real training images against the held-out ones; where there are none, one half of these against the other."""
        run, k = self.run, self.run.config.evaluation.nearest_k
        assert run.judge is not None
        if run.real is not None:
            seen = judge_images(_real_batches(run.real, run.config.evaluation.max_images), run.teacher, run.judge)
            return compare_images(seen, self.held_out, k, CEILING, 0)
        one, other = (self.held_out.subset(indices) for indices in split_halves(self.held_out.labels))
        return compare_images(one, other, k, CEILING, 0) if len(other.labels) > k else []

    def _with_fingerprints(self, domains: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: {**found, "images": self.fingerprints[name]} for name, found in domains.items()}


def _chosen(count: int, at_most: int) -> np.ndarray:
    """Places of ``at_most`` of ``count`` images, ascending: drawn, since classes may lie in any order."""
    drawn = np.random.default_rng(0).permutation(count)[:at_most]
    return np.sort(drawn)


def _training_batches(run: Run, seed: int, method: str) -> Batches:
    """The images that a method's student learned from, at most ``evaluation.max_images`` of them.

    Raises:
        UserError: a shard is damaged or missing, or a real image doesn't decode.
    """
    at_most = run.config.evaluation.max_images
    if method == "real":
        assert run.real_training is not None
        yield from _real_batches(run.real_training, at_most)
        return
    source = run.images(seed, method)
    _, found = whole(source)
    chosen = set(_chosen(found.num_images, at_most).tolist())
    samples = (sample for place, sample in enumerate(read_encoded(source)) if place in chosen)
    while batch := [decode(sample) for sample in islice(samples, BATCH)]:
        images = np.stack([to_array(sample) for sample in batch])
        yield torch.from_numpy(images), torch.tensor([sample.label for sample in batch])


def _real_batches(real: LabelledImages, at_most: int) -> Batches:
    """Real images, at most so many of them, every one of which decodes."""
    chosen = real.subset(_chosen(len(real), at_most))
    chosen.check()
    yield from labeled_batches(chosen)
