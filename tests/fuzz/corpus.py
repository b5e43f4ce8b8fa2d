"""Inputs that a reader once failed on, kept for ever: ``corpus/FAMILY/NAME.json``, replayed by the tests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import Case, Files

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 2**16  # of a kept case
MAX_TEXT = 2000  # characters of a file that is kept as text


def kept() -> Iterator[tuple[str, Path]]:
    """Every family and file of the corpus."""
    for path in sorted(CORPUS.glob("*/*.json")):
        yield path.parent.name, path


def keep(family: str, case: Case, base: Files, fault: str) -> Path | None:
    """Store a case under a name that its fault gives; None where it is too large."""
    name = hashlib.sha256(fault.encode()).hexdigest()[:12]
    files = {path: _packed(contents, base.get(path, b"")) for path, contents in case.items()}
    text = json.dumps({"fault": fault, "files": files}, indent=1)
    if len(text) > MAX_BYTES:
        return None
    path = CORPUS / family / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


def load(path: Path, base: Files) -> Case:
    """A stored case, for the valid input ``base`` of its family."""
    files = json.loads(path.read_text())["files"]
    return {name: _unpacked(packed, base.get(name, b"")) for name, packed in files.items()}


def _packed(contents: bytes | None, base: bytes) -> dict[str, Any] | None:
    """As text where it is one; else what differs from the valid file, between a start and an end that it keeps."""
    if contents is None:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        if "\r" not in (text := contents.decode()) and len(text) <= MAX_TEXT:
            return {"text": text}
    start = _num_common(contents, base)
    end = _num_common(contents[start:][::-1], base[start:][::-1])
    middle = zlib.compress(contents[start : len(contents) - end])
    return {"start": start, "zlib": base64.b64encode(middle).decode(), "end": end}


def _num_common(one: bytes, other: bytes) -> int:
    """How many bytes two strings have in common from their start on."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _unpacked(packed: dict[str, Any] | None, base: bytes) -> bytes | None:
    if packed is None:
        return None
    if "text" in packed:
        return packed["text"].encode()
    end = base[len(base) - packed["end"] :] if packed["end"] else b""
    return base[: packed["start"]] + zlib.decompress(base64.b64decode(packed["zlib"])) + end
