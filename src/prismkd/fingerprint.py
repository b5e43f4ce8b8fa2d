"""Which weights drew these images: a digest of a model folder's files."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

WEIGHTS = (".json", ".safetensors", ".bin", ".txt", ".model")


def fingerprint(folder: Path | None) -> str:
    """A digest of the configurations and weights in ``folder``; empty for None, as a hub model's commit says it all."""
    return "" if folder is None else _fingerprint(folder.resolve())


@cache
def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in WEIGHTS:
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
