"""MkDocs hook: the table of all settings, from the dataclasses themselves, so that it can't be out of date."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

from prismkd.config import Config

MARK = "<!-- all settings -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where the page asks for them."""
    return markdown.replace(MARK, "\n\n".join(tables(Config))) if MARK in markdown else markdown


def tables(kind: type, prefix: str = "") -> Iterator[str]:
    """A section of Markdown for a dataclass, then one for each dataclass in it."""
    hints, meanings = get_type_hints(kind), docstrings(kind)
    title = f"## `[{prefix}]`" if prefix else "## At the top of the file"
    rows, parts = [], []
    for field in dataclasses.fields(kind):
        name = f"{prefix}.{field.name}".strip(".")
        if dataclasses.is_dataclass(hints[field.name]):
            parts.append((hints[field.name], name))
        else:
            rows.append(f"| `{field.name}` | `{default(field)}` | {in_a_cell(meanings[field.name])} |")
    head = ["| setting | default | what it does |", "|---|---|---|"]
    yield "\n".join([title, "", in_a_cell(inspect.getdoc(kind) or ""), "", *head, *rows])
    for part, name in parts:
        yield from tables(part, name)


def default(field: dataclasses.Field[Any]) -> str:
    """A default as a TOML file would say it."""
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' if isinstance(item, str) else str(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def docstrings(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass, which Python itself throws away."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            found[statement.target.id] = str(text.value) if isinstance(text, ast.Constant) else ""
    return found


def in_a_cell(text: str) -> str:
    """Text of a docstring in one cell of a Markdown table."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")
