"""What a run is called, and what it takes to make its numbers again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prismkd.records.digests import NUM_SHOWN
from prismkd.records.directory import commands_of
from prismkd.records.results import RunResults


def run_name(folder: Path) -> str:
    """What a run is called: its folder."""
    return folder.resolve().name


def command_of(run: RunResults) -> str:
    """The command that made the run, and those that changed its settings, a line each."""
    return commands_of(run.record) if run.record.get("command") else str(run.metrics.get("command") or "")


def provenance(run: RunResults) -> list[tuple[str, str]]:
    """What it takes to make these numbers again, besides the command."""
    seeds = sorted({result.seed for result in run.results})
    entries = {
        "Version": run.record.get("version"),
        "Hardware": run.metrics.get("hardware"),
        "Started": run.record.get("started"),
        "Measured": run.metrics.get("date"),
        "Seeds": ", ".join(map(str, seeds)),
        "Digests": _shortened(run.metrics.get("inputs") or {}),
    }
    return [(name, _plain_text(value)) for name, value in entries.items() if value]


def _shortened(digests: Any) -> Any:
    """Digests by what they are of, perhaps by domain, with their first digits."""
    if isinstance(digests, Mapping):
        return {name: _shortened(digest) for name, digest in digests.items()}
    return str(digests)[:NUM_SHOWN]


def _plain_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain_text(part)}" for key, part in value.items())
    return ", ".join(map(_plain_text, value)) if isinstance(value, list) else str(value)
