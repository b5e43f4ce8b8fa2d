"""Measurements that are made once: each is a JSON file in a folder whose name is the hash of all settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.laboratory import Laboratory
from benchmarks.publish import ROOT


def folder_of(name: str, laboratory: Laboratory, *settings: Any) -> Path:
    """Where the cells of these settings are: other defaults are other cells."""
    identity = json.dumps([asdict(laboratory.config), laboratory.num_steps, *settings], sort_keys=True)
    return ROOT / "runs" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Cells:
    """Stored results by name."""

    folder: Path

    def get(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored result of ``name``, or a new one."""
        path = self.path(name)
        if not path.is_file():
            data = compute()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".tmp").write_text(json.dumps(data))
            path.with_suffix(".tmp").replace(path)
            print(f"{name}: {_brief(data)}", flush=True)
        return json.loads(path.read_text())

    def path(self, name: str) -> Path:
        """The file of ``name``."""
        return self.folder / "cells" / f"{name.replace(' ', '-')}.json"


def _brief(data: dict[str, Any]) -> str:
    return json.dumps({k: round(v, 3) for k, v in {**data, **data.get("top1", {})}.items() if isinstance(v, float)})
