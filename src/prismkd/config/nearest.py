"""What a mistyped word may have meant: a command, a flag, a key of a file, or one of a few values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def perhaps(word: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """ "perhaps WORD" with the nearest known word behind ``prefix``, or ``otherwise`` where none is near."""
    near = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.4)
    return f"perhaps {prefix}{near[0]}" if near else otherwise
