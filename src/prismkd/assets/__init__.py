"""The embedded world, Pictograms: where its files are (see ``benchmarks/pictograms`` for how they were made)."""

from __future__ import annotations

from pathlib import Path

from prismkd.errors import UserError

PICTOGRAMS = Path(__file__).parent / "pictograms"
CLASS_LISTS = Path(__file__).parent / "classes"


def asset(name: str) -> Path:
    """The path of one of the embedded world's files or folders.

    Raises:
        UserError: the installation lacks it.
    """
    path = PICTOGRAMS / name
    if not path.exists():
        raise UserError(f"expected the embedded file {path}, found none; reinstall prismkd")
    return path
