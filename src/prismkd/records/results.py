"""What a run has measured, as it stands in its JSON files; whatever is optional and absent is None or empty."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from prismkd.config.methods import ROWS
from prismkd.errors import UserError
from prismkd.files.documents import check_shape
from prismkd.metrics.hits import unpack_hits
from prismkd.records.digests import check_figures
from prismkd.records.directory import HELD_OUT, is_run, read_json_if_any, remedy_of
from prismkd.records.scores import Result
from prismkd.records.shapes import CalibrationRecord, Metrics, ResultRow, ShownEvaluation, ShownRecord
from prismkd.text import shortened

SCHEMA = 1
EVALUATION, REFERENCES_FILE = "evaluation.json", "references.json"  # of a student; of the teacher
EVERY_SEED = -1  # the teacher's: it is the same for the students of all seeds
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class DomainHits:
    """Which test images of a domain a student gets right; of held-out synthetic ones, where it agrees with its teacher.

    Attributes:
        hits: zeros and ones (num_images,), int8.
        images: fingerprint of the test images; hits can be paired where it is the same.
    """

    hits: np.ndarray
    images: str | None


Hits = dict[int, dict[str, DomainHits]]  # seed -> domain -> hits


@dataclass(frozen=True)
class RunResults:
    """What a run has measured.

    Attributes:
        folder: the run's.
        results: the rows of metrics.json; none where the run isn't finished.
        classes: names in the order of the labels.
        metrics: all of metrics.json.
        record: all of run.json.
        calibration: all of calibration.json, or None.
        folders: a method's folders, one per seed, lowest seed first.
    """

    folder: Path
    results: list[Result]
    classes: list[str]
    metrics: Metrics
    record: ShownRecord
    calibration: CalibrationRecord | None
    folders: dict[str, list[Path]]
    _documents: dict[Path, Any] = field(default_factory=dict, repr=False, compare=False)

    def document(self, path: Path, shape: type[T]) -> T | None:
        """A JSON file of the run, read once; None where there is none.

        Args:
            path: of the file.
            shape: always the same for a path; as of ``directory.read_json``.
        """
        # A page asks for a student's evaluation in five of its sections, and with 1,000 classes it has megabytes
        if path not in self._documents:
            self._documents[path] = read_json_if_any(path, shape)
        return cast("T | None", self._documents[path])

    def documents(self, method: str, name: str, shape: type[T]) -> list[T]:
        """The JSON file ``name`` of every seed of ``method`` that has one, lowest seed first."""
        documents = [self.document(folder / name, shape) for folder in self.folders.get(method, [])]
        return [document for document in documents if document is not None]

    def evaluations(self, method: str) -> list[ShownEvaluation]:
        """``evaluation.json`` of every seed of ``method`` that has one, lowest seed first."""
        return self.documents(method, EVALUATION, ShownEvaluation)

    def hits(self, method: str) -> Hits:
        """Each image's hit, for every seed and domain where it was kept; the teacher's stand under ``EVERY_SEED``."""
        if method == "teacher":
            paths = {EVERY_SEED: self.folder / REFERENCES_FILE}
        else:
            paths = {seed_of(folder): folder / EVALUATION for folder in self.folders.get(method, [])}
        return {seed: _hits(self.document(path, ShownEvaluation), path) for seed, path in paths.items()}

    def num_test_images(self) -> dict[str, int]:
        """Each domain's number of test images, or of held-out synthetic ones, by the table of results."""
        counted = [row for row in self.results if row.metric == "top1" or row.domain in HELD_OUT.values()]
        return {row.domain: row.n for row in counted if row.n}


def load_run(folder: Path, *, finished: bool = True) -> RunResults:
    """Read a run directory.

    Args:
        folder: the run's.
        finished: whether it must be; else the students that are evaluated so far are enough.

    Raises:
        UserError: metrics.json is missing from a finished run, or a file is no JSON or of another schema.
    """
    path = folder / "metrics.json"
    metrics = _metrics(path)
    if metrics is None and finished:
        raise _unfinished(folder)
    metrics = metrics or {"schema": SCHEMA, "results": []}
    record, folders = read_json_if_any(folder / "run.json", ShownRecord) or {}, _method_folders(folder)
    for of_method in itertools.chain(*folders.values()):
        check_figures(of_method, metrics)
    return RunResults(
        folder=folder,
        results=[result for row in metrics["results"] if math.isfinite((result := _result(row)).value)],
        classes=metrics.get("classes") or [row["name"] for row in record.get("classes", [])],
        metrics=metrics,
        record=record,
        calibration=read_json_if_any(folder / "calibration.json", CalibrationRecord),
        folders=folders,
    )


def _metrics(path: Path) -> Metrics | None:
    """``metrics.json``, whose schema is looked at first: another one may have another shape."""
    document = read_json_if_any(path, dict[str, Any])
    if document is None:
        return None
    if document.get("schema") != SCHEMA:
        raise UserError(
            f"expected schema {SCHEMA} in {path}, got {shortened(document.get('schema'))}; "
            "make the report with the version of prismkd that made the run"
        )
    check_shape(document, Metrics, str(path), remedy=remedy_of(path))
    return cast(Metrics, document)


def _unfinished(folder: Path) -> UserError:
    """What is wrong with a folder without metrics.json."""
    if not folder.is_dir():
        return UserError(f"expected the folder of a finished run, got {folder}, where there is none; check the path")
    if not is_run(folder):
        return UserError(f"expected the folder of a finished run, got {folder}, which has no run.json; check the path")
    return UserError(
        f"expected a finished run, got {folder}, which is not evaluated yet; `prismkd run --out {folder}` does what is "
        "left"
    )


def seed_of(folder: Path) -> int:
    """The seed of a method's folder, ``seed-3/prism``."""
    return int(folder.parent.name.removeprefix("seed-"))


def _result(row: ResultRow) -> Result:
    bounds = [bound for bound in row.get("ci95") or () if bound is not None]
    return Result(
        method=row["method"],
        seed=row.get("seed") or 0,  # the teacher has no seed of its own
        domain=row["domain"],
        metric=row["metric"],
        value=math.nan if row["value"] is None else float(row["value"]),
        ci95=(float(bounds[0]), float(bounds[1])) if len(bounds) == 2 else None,
        n=row.get("n") or 0,
    )


def _hits(document: ShownEvaluation | None, path: Path) -> dict[str, DomainHits]:
    """By domain, where they were kept."""
    found = {}
    for domain, details in (document or {}).get("domains", {}).items():
        if details.get("hits"):
            try:
                hits = unpack_hits(details["hits"], details["n"])
            except ValueError as error:
                raise UserError(
                    f"expected the hits of {details['n']} images of {shortened(domain)} in {path}, got others "
                    f"({error}); {remedy_of(path)}"
                ) from None
            found[domain] = DomainHits(hits, details.get("images"))
    return found


def _method_folders(folder: Path) -> dict[str, list[Path]]:
    """seed-*/METHOD, seeds in numeric order, methods in the order of the tables."""
    seeds = [path for path in folder.glob("seed-*") if path.is_dir() and path.name[5:].isdecimal()]
    folders: dict[str, list[Path]] = {}
    for seed in sorted(seeds, key=lambda path: int(path.name[5:])):
        for method in sorted(path for path in seed.iterdir() if path.is_dir()):
            folders.setdefault(method.name, []).append(method)
    known = [method for method in ROWS if method in folders]
    return {method: folders[method] for method in [*known, *(m for m in folders if m not in known)]}
