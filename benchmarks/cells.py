"""Measurements that are made once: each is a JSON file in a folder whose name is the hash of all settings.

A stopped benchmark continues where it was, and one with other settings finds none of these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.publish import ROOT
from prismkd import Session


def folder_of(name: str, session: Session, *settings: Any) -> Path:
    """The folder for cells of benchmark ``name`` under these settings, which are whatever JSON can hold."""
    identity = json.dumps([asdict(session.config), *settings], sort_keys=True)
    return ROOT / "runs" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Cells:
    """Stored measurements by name, in ``folder``."""

    folder: Path

    def get(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored measurement of ``name``; if there is none, ``measure`` makes it, and it is stored and printed."""
        path = self.folder / "cells" / f"{name.replace(' ', '-')}.json"
        if not path.is_file():
            measured = measure()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".tmp").write_text(json.dumps(measured))
            path.with_suffix(".tmp").replace(path)  # at once: a kill leaves no half file that would count as measured
            print(f"{name}: {_brief(measured)}", flush=True)
        return json.loads(path.read_text())


def _brief(measured: dict[str, Any]) -> str:
    """The numbers of a measurement, rounded, top-1 per domain among them."""
    numbers = {**measured, **measured.get("top1", {})}
    return json.dumps({name: round(value, 3) for name, value in numbers.items() if isinstance(value, float)})
