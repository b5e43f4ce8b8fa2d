"""What a run has measured, as it stands in its JSON files; whatever is optional and absent is None or empty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prismkd.config.methods import ROWS
from prismkd.errors import UserError
from prismkd.metrics.hits import unpack_hits
from prismkd.records.digests import check_figures
from prismkd.records.directory import HELD_OUT, is_run, read_json_if_any
from prismkd.records.scores import Result

SCHEMA = 1
EVALUATION, REFERENCES_FILE = "evaluation.json", "references.json"  # of a student; of the teacher
EVERY_SEED = -1  # the teacher's: it is the same for the students of all seeds


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
    metrics: dict[str, Any]
    record: dict[str, Any]
    calibration: dict[str, Any] | None
    folders: dict[str, list[Path]]
    _documents: dict[Path, dict[str, Any] | None] = field(default_factory=dict, repr=False, compare=False)

    def document(self, path: Path) -> dict[str, Any] | None:
        """A JSON file of the run, read once; None where there is none."""
        # A page asks for a student's evaluation in five of its sections, and with 1,000 classes it has megabytes
        if path not in self._documents:
            self._documents[path] = read_json_if_any(path)
        return self._documents[path]

    def documents(self, method: str, name: str) -> list[dict[str, Any]]:
        """The JSON file ``name`` of every seed of ``method`` that has one, lowest seed first."""
        documents = [self.document(folder / name) for folder in self.folders.get(method, [])]
        return [document for document in documents if document is not None]

    def hits(self, method: str) -> Hits:
        """Each image's hit, for every seed and domain where it was kept; the teacher's stand under ``EVERY_SEED``."""
        if method == "teacher":
            paths = {EVERY_SEED: self.folder / REFERENCES_FILE}
        else:
            paths = {seed_of(folder): folder / EVALUATION for folder in self.folders.get(method, [])}
        documents = {seed: self.document(path) or {} for seed, path in paths.items()}
        return {
            seed: {
                domain: DomainHits(unpack_hits(details["hits"], details["n"]), details.get("images"))
                for domain, details in (document.get("domains") or {}).items()
                if details.get("hits")
            }
            for seed, document in documents.items()
        }

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
    metrics = read_json_if_any(path)
    if metrics is None and finished:
        raise _unfinished(folder)
    if metrics is not None and metrics.get("schema") != SCHEMA:
        raise UserError(
            f"expected schema {SCHEMA} in {path}, got {metrics.get('schema')!r}; "
            "make the report with the version of prismkd that made the run"
        )
    metrics, record, folders = metrics or {}, read_json_if_any(folder / "run.json") or {}, _method_folders(folder)
    for of_method in itertools.chain(*folders.values()):
        check_figures(of_method, metrics)
    classes = metrics.get("classes") or [row["name"] for row in record.get("classes") or []]
    return RunResults(
        folder=folder,
        results=_rows(metrics, path),
        classes=[str(name) for name in classes],
        metrics=metrics,
        record=record,
        calibration=read_json_if_any(folder / "calibration.json"),
        folders=folders,
    )


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


@contextmanager
def expected_shape(*folders: Path) -> Iterator[None]:
    """While a run is read: files that are JSON but not of the shape that this version writes are a UserError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"expected JSON files as this version of prismkd writes them in {', '.join(map(str, folders))}, got "
            f"{type(error).__name__}: {' '.join(str(error).split())}; delete the damaged file and run again, or "
            "make the report with the version that made the run"
        ) from error


def seed_of(folder: Path) -> int:
    """The seed of a method's folder, ``seed-3/prism``."""
    return int(folder.parent.name.removeprefix("seed-"))


def _rows(metrics: dict[str, Any], path: Path) -> list[Result]:
    rows = []
    for row in metrics.get("results", []):
        try:
            bounds = tuple(float(bound) for bound in row.get("ci95") or ())
            result = Result(
                method=str(row["method"]),
                seed=int(row.get("seed") or 0),  # the teacher has no seed of its own
                domain=str(row["domain"]),
                metric=str(row["metric"]),
                value=math.nan if row["value"] is None else float(row["value"]),
                ci95=(bounds[0], bounds[1]) if len(bounds) == 2 and all(map(math.isfinite, bounds)) else None,
                n=int(row.get("n") or 0),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"expected rows with method, seed, domain, metric and value in {path}, got {row!r}; "
                "delete the file and run again"
            ) from error
        if math.isfinite(result.value):
            rows.append(result)
    return rows


def _method_folders(folder: Path) -> dict[str, list[Path]]:
    """seed-*/METHOD, seeds in numeric order, methods in the order of the tables."""
    seeds = [path for path in folder.glob("seed-*") if path.is_dir() and path.name[5:].isdecimal()]
    folders: dict[str, list[Path]] = {}
    for seed in sorted(seeds, key=lambda path: int(path.name[5:])):
        for method in sorted(path for path in seed.iterdir() if path.is_dir()):
            folders.setdefault(method.name, []).append(method)
    known = [method for method in ROWS if method in folders]
    return {method: folders[method] for method in [*known, *(m for m in folders if m not in known)]}
