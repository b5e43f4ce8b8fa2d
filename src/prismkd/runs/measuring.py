"""The evaluate stage: students, image sets, the teacher, and real images against real ones, to ``metrics.json``."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from prismkd import __version__
from prismkd.classifiers import Classifier
from prismkd.data import LabeledImages
from prismkd.evaluation.images import JudgedImages, compare_images, judge_images, labeled_batches, split_halves
from prismkd.evaluation.rows import Row
from prismkd.evaluation.students import StudentEvaluation, evaluate_student, logits_of
from prismkd.metrics.hits import domain_order
from prismkd.records.directory import read_json, read_record, write_json
from prismkd.runs.dataset import Dataset, DrawnImages, random_places, real_batches
from prismkd.runs.run import Run
from prismkd.runs.tracking import track_results
from prismkd.runs.training import recipes

CEILING = "real-vs-real"


def evaluate(run: Run) -> None:
    """Measure every student and image set, and gather all of it in ``metrics.json``.

    Raises:
        UserError: test images that don't decode, before anything is measured; or a damaged shard.
    """
    measurement, references = Measurement(run), run.directory / "references.json"
    unmeasured = [dataset for dataset in run.datasets if not (dataset.folder / "evaluation.json").is_file()]
    with run.track("evaluation (teacher, students)", len(unmeasured) + (not references.is_file())) as progress:
        if not references.is_file():
            write_json(references, measurement.references())
            progress(1)
        for dataset in unmeasured:
            # A file per dataset, so that a crash loses one evaluation, and a new student takes its own away.
            measured = {**measurement.evaluate(dataset), "energy": dataset.energies()}
            write_json(dataset.folder / "evaluation.json", measured)
            progress(1)
    metrics = gather_metrics(run)
    write_json(run.directory / "metrics.json", metrics)
    track_results(run.config.distillation.tracker, run.directory, metrics["results"])


@dataclass(frozen=True)
class Measurement:
    """The test images with what all datasets of a run are compared with, each computed when it is first needed."""

    run: Run

    @cached_property
    def test(self) -> LabeledImages:
        """All test images, every one of which decodes."""
        self.run.test.check()
        return self.run.test

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each domain's images: only runs with the same ones can be compared."""
        return {domain: self.test.domain(domain).fingerprint() for domain in domain_order(self.test.domains)}

    @cached_property
    def teacher_logits(self) -> np.ndarray:
        """The teacher's of all test images, (n, num_classes)."""
        return logits_of(self.run.teacher, self.test)

    @cached_property
    def held_out(self) -> JudgedImages:
        """The real images of the teacher's own domain, as judge and teacher see them."""
        assert self.run.judge is not None
        images = self.test.domain("id")
        # Cut down before judging: the judge's features are what takes memory.
        images = images.subset(random_places(len(images), self.run.config.evaluation.max_images))
        return judge_images(labeled_batches(images), self.run.teacher, self.run.judge)

    def evaluate(self, dataset: Dataset) -> dict[str, Any]:
        """One dataset's student, and the images that it learned from."""
        run, config = self.run, self.run.config.evaluation
        student = self._on_test(run.load_student(dataset.student_folder), dataset.method, dataset.seed)
        rows = student.rows
        if config.cas:
            of_labels = self._on_test(run.load_student(dataset.labels_student_folder), dataset.method, dataset.seed)
            # Of that student only the accuracy is of interest: the classification accuracy score (Ravuri and Vinyals
            # 2019).
            rows = rows + [replace(row, metric="cas") for row in of_labels.rows if row.metric == "top1"]
        if run.judge is not None:
            seen = judge_images(dataset.batches(config.max_images), run.teacher, run.judge)
            rows = rows + compare_images(seen, self.held_out, config.nearest_k, dataset.method, dataset.seed)
        return {
            "results": [row.to_dict() for row in rows],
            "confusion": student.confusion,
            "confusion_teacher": student.confusion_teacher,
            "domains": self._with_fingerprints(student.domains),
        }

    def references(self) -> dict[str, Any]:
        """The teacher itself, and real images against real images: the most that an image set can reach."""
        teacher = self._on_test(self.run.teacher, "teacher", 0)
        rows = teacher.rows + ([] if self.run.judge is None else self._ceiling())
        return {"results": [row.to_dict() for row in rows], "domains": self._with_fingerprints(teacher.domains)}

    def _on_test(self, student: Classifier, method: str, seed: int) -> StudentEvaluation:
        share = self.run.config.evaluation.restrict_below
        return evaluate_student(student, self.run.teacher, self.test, method, seed, self.teacher_logits, share)

    def _ceiling(self) -> list[Row]:
        """Real training images against the held-out ones; where there are none, one half of these against the other."""
        run, k = self.run, self.run.config.evaluation.nearest_k
        assert run.judge is not None
        if run.real is not None:
            seen = judge_images(real_batches(run.real, run.config.evaluation.max_images), run.teacher, run.judge)
            return compare_images(seen, self.held_out, k, CEILING, 0)
        one, other = (self.held_out.subset(indices) for indices in split_halves(self.held_out.labels))
        return compare_images(one, other, k, CEILING, 0) if len(other.labels) > k else []

    def _with_fingerprints(self, domains: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: {**details, "images": self.fingerprints[name]} for name, details in domains.items()}


# --- metrics.json ----------------------------------------------------------------------------------------------------


def gather_metrics(run: Run) -> dict[str, Any]:
    """All results and timings in the published schema."""
    results, timings = read_json(run.directory / "references.json")["results"], []
    for dataset in run.datasets:
        results += read_json(dataset.folder / "evaluation.json")["results"]
        timings += _timings(dataset)
    # What DPE and EDA prepare has its price too, once per run.
    for stage in ("senses", "contents", "calibration"):
        path = run.directory / f"{stage}.json"
        if path.is_file():
            data = read_json(path)
            timings.append(_timing(stage, "", None, data["seconds"], data.get("images", data.get("num_images"))))
    record = read_record(run.directory)
    return {
        "schema": 1,
        "results": results,
        "timings": timings,
        "classes": [item.name for item in run.classes],
        "command": record["command"],
        "hardware": hardware(),
        "date": record["started"][:10],
        "version": __version__,
        "seeds": list(run.config.seeds),
    }


def _timings(dataset: Dataset) -> list[dict[str, Any]]:
    """What a dataset's students and images took."""
    timings = []
    # Not strict: the student of labels is there only where cas asks for it.
    for stage, name in zip(("distill", "cas"), recipes(dataset.run.config), strict=False):
        log = read_json(dataset.folder / name / "log.json")
        timings.append(_timing(stage, dataset.method, dataset.seed, log["seconds"], log["images"]))
    if isinstance(dataset, DrawnImages):
        drawn = read_json(dataset.folder / "synthesis.json")
        timings.append(_timing("synthesize", dataset.method, dataset.seed, drawn["seconds"], drawn["num_images"]))
    return timings


def _timing(stage: str, method: str, seed: int | None, seconds: float, images: int) -> dict[str, Any]:
    return {"stage": stage, "method": method, "seed": seed, "seconds": round(seconds, 2), "images": images}


def hardware() -> str:
    """The machine in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
