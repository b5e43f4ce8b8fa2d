"""Reads what a run has written; whatever is optional and absent is None or empty."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prismkd.config.methods import ROWS
from prismkd.errors import UserError
from prismkd.records.scores import Result

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """A finished run in memory. `folders` maps a method to its seed folders, lowest seed first."""

    folder: Path
    results: list[Result]
    classes: list[str]
    metrics: dict[str, Any]
    record: dict[str, Any]
    calibration: dict[str, Any] | None
    folders: dict[str, list[Path]]
    _read: dict[Path, dict[str, Any] | None] = field(default_factory=dict, repr=False, compare=False)

    def document(self, path: Path) -> dict[str, Any] | None:
        """A JSON file of the run, read once; None where there is none."""
        if path not in self._read:
            self._read[path] = read_json(path)
        return self._read[path]

    def documents(self, method: str, name: str) -> list[dict[str, Any]]:
        """The JSON file `name` of every seed of `method` that has one, lowest seed first."""
        documents = [self.document(folder / name) for folder in self.folders.get(method, [])]
        return [document for document in documents if document is not None]


def load_run(folder: Path) -> Run:
    """Read a run directory.

    Raises UserError when metrics.json is missing, or any file is no JSON or of another schema.
    """
    path = folder / "metrics.json"
    metrics = read_json(path)
    if metrics is None:
        raise UserError(
            f"expected a finished run with {path}, got no such file; "
            f"do: run `prismkd run --config FILE --out {folder}` again, it resumes where it stopped"
        )
    if metrics.get("schema") != SCHEMA:
        raise UserError(
            f"expected schema {SCHEMA} in {path}, got {metrics.get('schema')!r}; "
            "do: make the report with the version of prismkd that made the run"
        )
    return Run(
        folder=folder,
        results=_results(metrics, path),
        classes=[str(name) for name in metrics.get("classes", [])],
        metrics=metrics,
        record=read_json(folder / "run.json") or {},
        calibration=read_json(folder / "calibration.json"),
        folders=_method_folders(folder),
    )


@contextmanager
def expected_shape(*folders: Path) -> Iterator[None]:
    """While pages are made: files that are JSON but not of the shape that this version writes are a UserError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"expected JSON files as this version of prismkd writes them in {', '.join(map(str, folders))}, got "
            f"{type(error).__name__}: {' '.join(str(error).split())}; do: delete the damaged file and run again, or "
            "make the report with the version that made the run"
        ) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no file. Raises UserError for a damaged one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"expected JSON in {path}, got: {error}; do: delete the file and run again") from error
    if not isinstance(document, dict):
        got = type(document).__name__
        raise UserError(f"expected a JSON object in {path}, got {got}; do: delete the file and run again")
    return document


def _results(metrics: dict[str, Any], path: Path) -> list[Result]:
    results = []
    for row in metrics.get("results", []):
        try:
            interval = tuple(float(bound) for bound in row.get("ci95") or ())
            result = Result(
                method=str(row["method"]),
                seed=int(row.get("seed") or 0),  # the teacher has no seed of its own
                domain=str(row["domain"]),
                metric=str(row["metric"]),
                value=math.nan if row["value"] is None else float(row["value"]),
                ci95=(interval[0], interval[1]) if len(interval) == 2 and all(map(math.isfinite, interval)) else None,
                n=int(row.get("n") or 0),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"expected rows with method, seed, domain, metric and value in {path}, got {row!r}; "
                "do: delete the file and run again"
            ) from error
        if math.isfinite(result.value):
            results.append(result)
    return results


def _method_folders(folder: Path) -> dict[str, list[Path]]:
    """seed-*/METHOD, seeds in numeric order, methods in the order of the tables."""
    seeds = [path for path in folder.glob("seed-*") if path.is_dir() and path.name[5:].isdigit()]
    found: dict[str, list[Path]] = {}
    for seed in sorted(seeds, key=lambda path: int(path.name[5:])):
        for method in sorted(path for path in seed.iterdir() if path.is_dir()):
            found.setdefault(method.name, []).append(method)
    known = [method for method in ROWS if method in found]
    return {method: found[method] for method in [*known, *(m for m in found if m not in known)]}
