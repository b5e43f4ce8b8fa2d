"""The evaluate stage: students, image sets, the teacher, and real images against real ones, to ``metrics.json``."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prismkd import __version__
from prismkd.classifiers import Classifier
from prismkd.data import LabeledImages
from prismkd.evaluation.held_out import evaluate_on_held_out, teacher_rows
from prismkd.evaluation.images import (
    JudgedImages,
    compare_images,
    describe_images,
    judge_images,
    labeled_batches,
    split_halves,
)
from prismkd.evaluation.rows import Row
from prismkd.evaluation.students import StudentEvaluation, evaluate_student, logits_of
from prismkd.files import write_json
from prismkd.records.digests import student_digest
from prismkd.records.directory import (
    ADAPTATION,
    HELD_OUT,
    adapter_folder,
    commands_of,
    held_out_folder,
    read_json,
    read_json_if_any,
    read_record,
)
from prismkd.records.shapes import EvaluationRecord, ResultRow, Spent, SynthesisRecord, TrainingLog
from prismkd.runs.aside import check_trained, drop_other_evaluation, evaluation_record
from prismkd.runs.dataset import Dataset, DrawnImages, RealImages, random_places, real_batches
from prismkd.runs.run import Run
from prismkd.runs.tracking import track_results
from prismkd.runs.training import recipes
from prismkd.shards import scan

CEILING = "real-vs-real"


def evaluate(run: Run) -> None:
    """Measure every student and image set, and gather all of it in ``metrics.json``.

    Raises:
        UserError: test or real images that don't decode, before anything is measured; or a damaged shard.
    """
    for dataset in run.datasets:
        for name, recipe in recipes(run.config).items():
            check_trained(dataset, name, recipe)
    run.inputs.check_teacher()
    measurement, references, inputs = Measurement(run), run.directory / "references.json", run.inputs.of_evaluation
    record = {"settings": evaluation_record(run), "inputs": inputs, "version": __version__}
    drop_other_evaluation(run, references, inputs)
    for dataset in run.datasets:
        drop_other_evaluation(run, dataset.folder / "evaluation.json", inputs | _student(dataset))
    unmeasured = [dataset for dataset in run.datasets if not (dataset.folder / "evaluation.json").is_file()]
    if unmeasured or not references.is_file():
        measurement.check_images()
    with run.track("evaluation (teacher, students)", len(unmeasured) + (not references.is_file())) as progress:
        if not references.is_file():
            write_json(references, measurement.references() | record)
            progress(1)
        for dataset in unmeasured:
            # A file per dataset, so that a crash loses one evaluation, and a new student takes its own away.
            own = record | {"inputs": inputs | _student(dataset)}
            measured = {**measurement.evaluate(dataset), "energy": dataset.energies(), **own}
            write_json(dataset.folder / "evaluation.json", measured)
            progress(1)
    metrics = gather_metrics(run)
    write_json(run.directory / "metrics.json", metrics)
    track_results(run.config.distillation.tracker, run.directory, metrics["results"])


def _student(dataset: Dataset) -> dict[str, str]:
    """Which student is measured."""
    return {"student": student_digest(dataset.student_folder)}


@dataclass(frozen=True)
class Measurement:
    """What all datasets of a run are compared with, each computed when it is first needed.

    Students meet the test images, or where there are none held-out synthetic ones; images meet real ones, if any.
    """

    run: Run

    @cached_property
    def judge(self) -> Classifier | None:
        """The run's, where it computes fastest."""
        return None if self.run.judge is None else self.run.on_device(self.run.judge)

    def _load(self, folder: Path) -> Classifier:
        return self.run.load_student(folder).to(self.run.device)

    @property
    def has_test(self) -> bool:
        """Whether there are test images."""
        return bool(self.run.config.evaluation.source)

    @cached_property
    def test(self) -> LabeledImages:
        """All test images, every one of which decodes."""
        self.run.test.check()
        return self.run.test

    def check_images(self) -> None:
        """Decode every image that is measured or measured against, so that a damaged one is found first.

        Raises:
            UserError: some don't decode; it says how many, and names the first.
        """
        if self.has_test:
            _ = self.test
        if self.run.real is not None and self.run.judge is not None:
            places = random_places(len(self.run.real), self.run.config.evaluation.max_images)
            self.run.real.subset(places).check()

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each domain's images: only runs with the same ones can be compared."""
        return self.run.inputs.test

    @cached_property
    def teacher_logits(self) -> np.ndarray:
        """The teacher's of all test images, (n, num_classes)."""
        return logits_of(self.run.teacher_on_device, self.test)

    @cached_property
    def reference(self) -> JudgedImages | None:
        """Real images of the teacher's own domain, as judge and teacher see them; None where there are none.

        Those of the test, which nobody has learned from; without a test, the teacher's training images.
        """
        assert self.judge is not None
        images = self.test.domain("id") if self.has_test else self.run.real
        if images is None:
            return None
        # Cut down before judging: the judge's features are what takes memory.
        images = images.subset(random_places(len(images), self.run.config.evaluation.max_images))
        if not self.has_test:
            images.check()
        return judge_images(labeled_batches(images), self.run.teacher_on_device, self.judge)

    def evaluate(self, dataset: Dataset) -> dict[str, Any]:
        """One dataset's student, and the images that it learned from."""
        rows, details = self._student_on_test(dataset) if self.has_test else self._student_on_held_out(dataset)
        return {"results": [row.to_dict() for row in rows + self._image_rows(dataset)], **details}

    def _student_on_test(self, dataset: Dataset) -> tuple[list[Row], dict[str, Any]]:
        run = self.run
        student = self._on_test(self._load(dataset.student_folder), dataset.method, dataset.seed)
        rows = student.rows
        if run.config.evaluation.cas:
            of_labels = self._on_test(self._load(dataset.labels_student_folder), dataset.method, dataset.seed)
            # Of that student only the accuracy is of interest: the classification accuracy score (Ravuri and Vinyals
            # 2019).
            rows = rows + [replace(row, metric="cas") for row in of_labels.rows if row.metric == "top1"]
        return rows, {
            "confusion": student.confusion,
            "confusion_teacher": student.confusion_teacher,
            "domains": self._with_fingerprints(student.domains),
        }

    def _student_on_held_out(self, dataset: Dataset) -> tuple[list[Row], dict[str, Any]]:
        student = self._load(dataset.student_folder)
        found = evaluate_on_held_out(student, self.run.taught, dataset.method, dataset.seed)
        # Nobody knows the true classes, so there is no confusion with them.
        return found.rows, {"confusion_teacher": found.confusion_teacher, "domains": found.domains}

    def _image_rows(self, dataset: Dataset) -> list[Row]:
        """A dataset's images by the judge, beside real ones where there are others than these."""
        config = self.run.config.evaluation
        if self.judge is None:
            return []
        seen = judge_images(dataset.batches(config.max_images), self.run.teacher_on_device, self.judge)
        is_reference = isinstance(dataset, RealImages) and not self.has_test and dataset.images is self.run.real
        if self.reference is None or is_reference:
            return describe_images(seen, dataset.method, dataset.seed)
        return compare_images(seen, self.reference, config.nearest_k, dataset.method, dataset.seed)

    def references(self) -> dict[str, Any]:
        """The teacher itself, and real images against real images: the most that an image set can reach."""
        rows, details = self._teacher_on_test() if self.has_test else self._teacher_on_held_out()
        rows = rows + ([] if self.judge is None else self._ceiling())
        return {"results": [row.to_dict() for row in rows], **details}

    def _teacher_on_test(self) -> tuple[list[Row], dict[str, Any]]:
        teacher = self._on_test(self.run.teacher_on_device, "teacher", 0)
        return teacher.rows, {"domains": self._with_fingerprints(teacher.domains)}

    def _teacher_on_held_out(self) -> tuple[list[Row], dict[str, Any]]:
        # Not under ``domains``: whether the teacher sees the prompted class is no hit to pair with a student's.
        taught = self.run.taught
        return teacher_rows(taught), {"held_out": {row.images.domain: row.references() for row in taught}}

    def _on_test(self, student: Classifier, method: str, seed: int) -> StudentEvaluation:
        share = self.run.config.evaluation.restrict_below
        return evaluate_student(
            student, self.run.teacher_on_device, self.test, method, seed, self.teacher_logits, share
        )

    def _ceiling(self) -> list[Row]:
        """Real training images against the test's; where there are only one of them, one half against the other."""
        run, k = self.run, self.run.config.evaluation.nearest_k
        if self.reference is None:
            return []
        assert self.judge is not None
        if run.real is not None and self.has_test:
            batches = real_batches(run.real, run.config.evaluation.max_images)
            seen = judge_images(batches, run.teacher_on_device, self.judge)
            return compare_images(seen, self.reference, k, CEILING, 0)
        one, other = (self.reference.subset(indices) for indices in split_halves(self.reference.labels))
        return compare_images(one, other, k, CEILING, 0) if len(other.labels) > k else []

    def _with_fingerprints(self, domains: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: {**details, "images": self.fingerprints[name]} for name, details in domains.items()}


# --- metrics.json ----------------------------------------------------------------------------------------------------


def gather_metrics(run: Run) -> dict[str, Any]:
    """All results and timings in the published schema."""
    references = read_json(run.directory / "references.json", EvaluationRecord)
    results: list[ResultRow] = [*references["results"]]
    timings: list[dict[str, Any]] = []
    for dataset in run.datasets:
        results += read_json(dataset.folder / "evaluation.json", EvaluationRecord)["results"]
        timings += _timings(dataset)
    # What DPE and EDA prepare has its price too, once per run.
    for stage in ("senses", "contents", "calibration"):
        path = run.directory / f"{stage}.json"
        if path.is_file():
            data = read_json(path, Spent)
            timings.append(_timing(stage, "", None, data["seconds"], data.get("images", data.get("num_images", 0))))
    adaptation = read_json_if_any(adapter_folder(run.directory) / ADAPTATION, Spent)
    if adaptation is not None:
        timings.append(_timing("adapt", "", None, adaptation["seconds"], 0))
    timings += _timings_of_held_out(run)
    record = read_record(run.directory)
    return {
        "schema": 1,
        "results": results,
        "timings": timings,
        "classes": [item.name for item in run.classes],
        "command": commands_of(record),
        "hardware": hardware(),
        "date": record["started"][:10],
        "version": __version__,
        "seeds": list(run.config.seeds),
        "inputs": references.get("inputs") or {},
    }


def _timings(dataset: Dataset) -> list[dict[str, Any]]:
    """What a dataset's students and images took."""
    timings = []
    # Not strict: the student of labels is there only where cas asks for it.
    for stage, name in zip(("distill", "cas"), recipes(dataset.run.config), strict=False):
        log = read_json(dataset.folder / name / "log.json", TrainingLog)
        timings.append(_timing(stage, dataset.method, dataset.seed, log["seconds"], log["images"]))
    if isinstance(dataset, DrawnImages):
        drawn = read_json(dataset.folder / "synthesis.json", SynthesisRecord)
        timings.append(_timing("synthesize", dataset.method, dataset.seed, drawn["seconds"], drawn["num_images"]))
    return timings


def _timings_of_held_out(run: Run) -> list[dict[str, Any]]:
    """What the held-out images took to draw, both sets together."""
    if not run.held_out:
        return []
    records = [record for kind in HELD_OUT for record in scan(held_out_folder(run.directory, kind)).records.values()]
    seconds, count = sum(record.seconds for record in records), sum(record.count for record in records)
    return [_timing("held-out", "", None, seconds, count)]


def _timing(stage: str, method: str, seed: int | None, seconds: float, images: int) -> dict[str, Any]:
    return {"stage": stage, "method": method, "seed": seed, "seconds": round(seconds, 2), "images": images}


def hardware() -> str:
    """The machine in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
