"""The class list: names and, where the user gives them, definitions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismkd.errors import UserError

MAX_NAME = 200


@dataclass(frozen=True)
class ClassName:
    """One class: the name the user gives it, and what is meant by it (may be empty)."""

    name: str
    definition: str = ""
    polysemous: bool = False


def load_classes(source: str) -> list[ClassName]:
    """Read ``pictograms``, a JSON list (names, or rows with name and definition) or text with one name per line.

    Raises:
        UserError: no such file, an empty list, duplicates, or names that can't be file names or text.
    """
    from prismkd.assets import asset

    path = asset("classes.json") if source == "pictograms" else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a readable class list, got {path}: {error}; check `classes`") from None
    classes = _parse_json(text, path) if path.suffix == ".json" else _parse_lines(text)
    _check(classes, path)
    return classes


def _parse_lines(text: str) -> list[ClassName]:
    return [ClassName(line.strip()) for line in text.splitlines() if line.strip()]


def _parse_json(text: str, path: Path) -> list[ClassName]:
    try:
        rows: Any = json.loads(text)
    except ValueError as error:
        raise UserError(f"expected JSON in {path}, got: {error}; mend the file") from None
    if not isinstance(rows, list):
        raise UserError(f"expected a JSON list of classes in {path}, got {type(rows).__name__}; wrap it in []")
    classes = []
    for number, row in enumerate(rows):
        row = {"name": row} if isinstance(row, str) else row
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise UserError(f"expected a name in row {number} of {path}, got {str(row)[:60]!r}; give each class a name")
        definition = row.get("definition", "")
        classes.append(ClassName(row["name"].strip(), str(definition).strip(), bool(row.get("polysemous", False))))
    return classes


def _check(classes: list[ClassName], path: Path) -> None:
    if not classes:
        raise UserError(f"expected at least two classes in {path}, got none; write one name per line")
    if len(classes) == 1:
        raise UserError(f"expected at least two classes in {path}, got only {classes[0].name!r}; add the others")
    for item in classes:
        bad = next((c for c in item.name if c in "/\\<>" or not c.isprintable()), None)
        if not item.name or bad or len(item.name) > MAX_NAME:
            problem = f"the character {bad!r} in it" if bad else f"{len(item.name)} characters"
            raise UserError(
                f"expected class names of 1 to {MAX_NAME} printable characters without / \\ < >, "
                f"got {item.name[:40]!r} with {problem}; rename it in {path}"
            )
    name, count = Counter(item.name for item in classes).most_common(1)[0]
    if count > 1:
        raise UserError(f"expected every class once, got {name!r} {count} times in {path}; remove the repeats")
