"""What a folder holds, but for what says when, how long and where: this alone may differ between two runs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

# The values of these keys, in any JSON file: when, how long, which process on which host; and the checksum of a commit
# record, which covers its seconds.
KEYS = {"started", "since", "date", "seconds", "images_per_second", "pid", "host", "checksum"}
# The same in a report: the table of seconds, and the moment at which the run was started.
TIMED_TEXT = re.compile(r"[^<>]* of wall-clock time in all.*?</table>|\d{4}-\d\d-\d\dT[\d:]*", re.DOTALL)


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file by its path below the folder; empty folders count, with a slash at the end."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            if not any(path.iterdir()):
                found[f"{name}/"] = ""
        else:
            found[name] = hashlib.sha256(timeless(path)).hexdigest()
    return found


def timeless(path: Path) -> bytes:
    """The bytes of a file without the values of ``KEYS``, or without times in its text."""
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        try:
            return b"\n".join(_dumped(line) for line in ([data] if path.suffix == ".json" else data.splitlines()))
        except ValueError:
            return data
    return TIMED_TEXT.sub("", data.decode()).encode() if path.suffix == ".html" else data


def _dumped(data: bytes) -> bytes:
    return json.dumps(_without_times(json.loads(data))).encode()


def _without_times(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: None if key in KEYS else _without_times(value) for key, value in data.items()}
    return [_without_times(value) for value in data] if isinstance(data, list) else data


def compared(found: dict[str, str], expected: dict[str, str]) -> tuple[list[str], list[str]]:
    """Files that are missing or other than expected, and those that nobody expected."""
    other = sorted(name for name in expected if found.get(name) != expected[name])
    return other, sorted(found.keys() - expected.keys())
