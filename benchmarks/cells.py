"""Measurements that are made once: each is a JSON file in a folder whose name is the hash of all settings and weights.

A stopped benchmark continues where it was, and one with other settings, or in another embedded world, finds none of
these. What is recorded in ``benchmarks/results`` part by part is of one such folder, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.publish import RESULTS, ROOT, write_results
from prismkd import Session
from prismkd.assets import asset

WORLD = ("classes.json", "generator", "judge", "real.parquet", "teacher", "test.parquet")


def folder_of(name: str, session: Session, *settings: Any) -> Path:
    """The folder for cells of benchmark ``name`` under these settings, which are whatever JSON can hold."""
    identity = json.dumps([asdict(session.config), world_digest(), *settings], sort_keys=True)
    return ROOT / "runs" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


@cache
def world_digest() -> str:
    """Which embedded world this is: a digest of its images and weights."""
    digest = hashlib.sha256()
    for name in WORLD:
        path = asset(name)
        for file in sorted(found for found in (path, *path.rglob("*")) if found.is_file()):
            digest.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Cells:
    """Stored measurements by name, in ``folder``."""

    folder: Path

    def get(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored measurement of ``name``; if there is none, ``measure`` makes it, and it is stored and printed."""
        path = self.path(name)
        if not path.is_file():
            measured = measure()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".tmp").write_text(json.dumps(measured))
            path.with_suffix(".tmp").replace(path)  # at once: a kill leaves no half file that would count as measured
            print(f"{name}: {_brief(measured)}", flush=True)
        return self.found(name)

    def has(self, name: str) -> bool:
        """Whether ``name`` is measured already."""
        return self.path(name).is_file()

    def found(self, name: str) -> dict[str, Any]:
        """The stored measurement of ``name``."""
        return json.loads(self.path(name).read_text())

    def path(self, name: str) -> Path:
        """The file of ``name``."""
        return self.folder / "cells" / f"{name.replace(' ', '-')}.json"

    def record(self, name: str, command: str, seeds: Sequence[int], part: str, found: Any) -> None:
        """Write a part of ``results/NAME.json``; parts that were recorded of other cells are forgotten."""
        path = RESULTS / f"{name}.json"
        before = json.loads(path.read_text()) if path.is_file() else {}
        kept = before if before.get("cells") == self.folder.name else {}
        write_results(name, command, seeds, {**kept, part: found, "cells": self.folder.name})


def _brief(measured: dict[str, Any]) -> str:
    """The numbers of a measurement, rounded, top-1 per domain among them."""
    numbers = {**measured, **measured.get("top1", {})}
    return json.dumps({name: round(value, 3) for name, value in numbers.items() if isinstance(value, float)})
