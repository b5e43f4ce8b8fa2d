"""Griffe extension for mkdocstrings: docstrings that are written to be read in the source look right on a page too."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """``[true class][predicted class]`` is two indices, not a link; lines in columns keep them."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = columns_as_code(escape(obj.docstring.value))


def escape(text: str) -> str:
    """Markdown in which two bracketed texts beside each other are what they seem."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if part.startswith("`") else re.sub(r"\]\[(?=[A-Za-z])", r"]\\[", part) for part in parts)


def columns_as_code(text: str) -> str:
    """Paragraphs whose lines are all of the form ``name    meaning`` as code blocks."""
    paragraphs = text.split("\n\n")
    in_columns = [all(re.match(r"\S.*? {2,}\S", line) for line in part.splitlines()) for part in paragraphs]
    indented = ("\n".join(f"    {line}" for line in part.splitlines()) for part in paragraphs)
    return "\n\n".join(new if yes else old for new, old, yes in zip(indented, paragraphs, in_columns, strict=True))
