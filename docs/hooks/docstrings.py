"""Griffe extension for mkdocstrings: ``[true class][predicted class]`` in a docstring is two indices, not a link."""

from __future__ import annotations

import re
from typing import Any

import griffe


class BracketsAreNoLinks(griffe.Extension):
    """Escapes them, but for those in backticks."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = escape(obj.docstring.value)


def escape(text: str) -> str:
    """Markdown in which two bracketed texts beside each other are what they seem."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if part.startswith("`") else re.sub(r"\]\[(?=[A-Za-z])", r"]\\[", part) for part in parts)
