"""Text from elsewhere made fit for a message: short, and without characters that command a terminal."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

MAX_LINE = 2000  # characters of one message; its begin and its end stay, since the end says what to do
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # Unicode's categories of control, format, half and line characters

NOT_PLAIN = re.compile("[^ -~]")  # whatever isn't printable ASCII


def printable(text: str) -> str:
    """One line of a message as a terminal may have it: what is hidden or commands it is written as an escape.

    Spaces and line breaks become single spaces; a text of more than ``MAX_LINE`` characters loses its middle.
    """
    if len(text) > MAX_LINE:
        text = f"{text[: MAX_LINE * 3 // 4]} [...] {text[-MAX_LINE // 4 :]}"
    return " ".join(visible(text, keep="\t\r\n").split())


def visible(text: str, *, keep: str = "") -> str:
    """A text with hidden and commanding characters written as escapes, such as ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return NOT_PLAIN.sub(lambda found: _shown(found[0], keep), text)


def shortened(value: Any, length: int = 60) -> str:
    """A value as Python writes it, cut where it is long."""
    try:
        text = repr(value[: length + 1] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # an int of more than 4,300 digits, or lists too deep in each other
        return "a value too long to write"
    return visible(text if len(text) <= length else f"{text[:length]}...")


def _shown(letter: str, keep: str) -> str:
    if letter in keep or unicodedata.category(letter) not in HIDDEN:
        return letter
    return letter.encode("unicode_escape").decode("ascii")
