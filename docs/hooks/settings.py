"""MkDocs hook: the table of all settings, from the dataclasses themselves, so that it can't be out of date."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, get_type_hints

from prismkd.config import Config
from prismkd.config.stages import (
    GROWING_SETTINGS,
    SETTINGS_WITHOUT_EFFECT_ON_RESULTS,
    STAGES_DONE_AGAIN,
    stage_of,
)

MARK, STAGES = "<!-- all settings -->", "<!-- stages -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where the page asks for them."""
    if MARK in markdown:
        markdown = markdown.replace(MARK, "\n\n".join(tables(Config)))
    return markdown.replace(STAGES, stage_table())


def stage_table() -> str:
    """What happens to a run that goes on with another value, by the beginnings of the settings' names."""
    of_stage: dict[str, list[str]] = {}
    for field in dataclasses.fields(Config):
        if field.name not in SETTINGS_WITHOUT_EFFECT_ON_RESULTS | set(GROWING_SETTINGS):
            of_stage.setdefault(stage_of(field.name), []).append(field.name)
    rows = ["| settings | of the stage | another value, in a run that is there |", "|---|---|---|"]
    for stage, names in of_stage.items():
        again = "done again; what lies before it stays" if stage in STAGES_DONE_AGAIN else "needs another `--out`"
        rows.append(f"| {_listed(names)} | {stage} | {again} |")
    rows.append(f"| {_listed(GROWING_SETTINGS)} | | more is added work, less is refused |")
    rows.append(f"| {_listed(sorted(SETTINGS_WITHOUT_EFFECT_ON_RESULTS))} | | goes on, results are the same |")
    return "\n".join(rows)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


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
