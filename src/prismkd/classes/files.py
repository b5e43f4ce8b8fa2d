"""Class list files: names and, where they are given, what is meant by them."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.files import open_plain
from prismkd.files.documents import as_shape, parse_toml
from prismkd.text import shortened

SUFFIXES = (".txt", ".csv", ".tsv", ".toml", ".json")
# A table has only texts, and what a spreadsheet exports for a check box differs by program and by hand.
TRUTH_VALUES = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}
# The class has a meaning that WordNet doesn't list. An empty synset says less: that nobody has looked.
NO_SYNSET = "none"
SYNSET_AND_NAMES = re.compile(r"(n[0-9]{8})\s+(.+)")
NUMBER_AND_NAME = re.compile(r"([0-9]{1,6})\s*([:.,;)\t-]?)\s*(?<![0-9])[^\W0-9]")

NAME_AND_NUMBER = re.compile(r"(.*[^\W0-9].*?)[\s:=,;]+([0-9]{1,6})")
COMMENT = re.compile(r"(^|\s)#\s|^//")
MARKS = {
    "a hyphen before": re.compile(r"[-*] .+"),
    "quotes around": re.compile(r"""(["']).+\1,?"""),
    "a comma behind": re.compile(r".+,"),
}
MAX_BYTES = 2**26  # a list of 100,000 classes with definitions is a quarter of it
# What no text needs: control characters, and the marks that turn the direction of all text around them
COMMANDING = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")
NUMBERING = ("index", "idx", "id", "label", "class_id", "number")


@dataclass(frozen=True)
class ClassName:
    """One class, by the name that files and reports have.

    The checks are in ``lists.load_classes``; the class itself holds whatever it is given.

    Attributes:
        name: 1 to 200 characters, unique in its list.
        definition: what is meant, in the user's words; at most 1,000 characters, may be empty.
        polysemous: whether the name has other meanings that a generator may draw.
        synset: WordNet id of what is meant, such as n02012849; ``none`` where WordNet lists only other meanings of the
            name; empty where it isn't known.
        synonyms: other names of the class.
        styles: the only style domains that suit the class; empty: all do.
    """

    name: str
    definition: str = ""
    polysemous: bool = False
    synset: str = ""
    synonyms: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()


COLUMNS = tuple(field.name for field in fields(ClassName))


def read_text(path: Path, expected: str, advice: str) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        path: the file.
        expected: what the file should be, for the error: "expected ``expected``, got ...".
        advice: what the user can do, for the error's end.

    Raises:
        UserError: the file can't be read, or isn't UTF-8.
    """
    try:
        with open_plain(path) as file:
            contents = file.read(MAX_BYTES + 1)
        if len(contents) > MAX_BYTES:
            raise UserError(f"expected {expected} of at most {MAX_BYTES >> 20} MiB, got {path}; {advice}")
        # Excel saves "CSV UTF-8" with a byte order mark, which would become a part of the first column's name
        text = contents.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"expected {expected} in UTF-8, got {path} with other bytes at place {error.start}; save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"expected {expected}, got {path}: {reason}; {advice}") from None
    command = COMMANDING.search(text)
    if command:
        line = text.count("\n", 0, command.start()) + 1
        raise UserError(
            f"expected text without control characters in {path}, got {shortened(command[0])} in line {line}; take it "
            "away"
        )
    return text


def parse_rows(text: str, path: Path) -> Any:
    """The rows of a class list file, not yet checked: a name or a dictionary by column for each class.

    A .json file gives whatever JSON value it holds, since it may also be a model's configuration.

    Raises:
        UserError: an unknown suffix, or a broken file.
    """
    suffix = path.suffix.lower()
    if suffix in ("", ".txt"):
        return _parse_lines(text, path)
    if suffix in (".csv", ".tsv"):
        return parse_table(text, path)
    if suffix == ".toml":
        return _parse_toml(text, path)
    if suffix == ".json":
        return parse_json(text, path)
    raise UserError(f"expected a class list that ends in {', '.join(SUFFIXES)}, got {path}; write it as one of these")


def _parse_lines(text: str, path: Path) -> list[Any]:
    """A name per line; or, as ImageNet's own lists have it, a WordNet id and the names of its synset.

    Raises:
        UserError: a table, or names with their numbers before them.
    """
    # Every line is a name: without comments none can swallow a class
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    of_synsets = [SYNSET_AND_NAMES.fullmatch(line) for line in lines]
    if lines and all(of_synsets):
        return [_synset_row(*found.groups()) for found in of_synsets if found]
    _refuse_marks(lines, path)
    numbers = [NUMBER_AND_NAME.match(line) for line in lines]
    for first in (0, 1):
        # "1 euro, 2 euro" are names; from 0 on, or with a mark behind it, the number is that of the line
        counted = [
            found and int(found[1]) == place and (first == 0 or found[2]) for place, found in enumerate(numbers, first)
        ]
        if len(lines) > 1 and all(counted):
            raise UserError(
                f"expected a name per line in {path}, got numbers before them ({lines[0][:40]!r}, {lines[1][:40]!r}); "
                "take them away, since the order of the lines numbers the classes"
            )
    if any("\t" in line for line in lines):
        raise UserError(
            f"expected a name per line in {path}, got a table with tabs; save it as .tsv, with a first line that names "
            f"the columns (of {', '.join(COLUMNS)})"
        )
    return lines


def _refuse_marks(lines: list[str], path: Path) -> None:
    """Refuse what isn't a part of the names: comments, and what other formats put around every one of them."""
    comment = next((line for line in lines if COMMENT.search(line)), None)
    if comment is not None:
        raise UserError(
            f"expected a name per line in {path}, got a comment ({comment[:40]!r}); take it away, since every line is "
            "a class"
        )
    mark = next((mark for mark, form in MARKS.items() if lines and all(form.fullmatch(line) for line in lines)), "")
    if mark:
        raise UserError(
            f"expected names and nothing else in {path}, got {mark} every one ({lines[0][:40]!r}); take them away"
        )
    ends = [NAME_AND_NUMBER.fullmatch(line) for line in lines]
    names = {end[1] for end in ends if end}
    # "stage 0, stage 1" are names, of which the numbers alone tell them apart
    if len(names) == len(lines) > 1 and all(end and int(end[2]) == place for place, end in enumerate(ends)):
        raise UserError(
            f"expected a name per line in {path}, got numbers behind them ({lines[0][:40]!r}, {lines[1][:40]!r}); take "
            "them away, since the order of the lines numbers the classes"
        )


def _synset_row(synset: str, names: str) -> dict[str, Any]:
    """A row of ImageNet's lists, such as ``n01440764 tench, Tinca tinca``."""
    name, *synonyms = [part.strip() for part in names.split(",") if part.strip()] or [synset]
    return {"name": name, "synset": synset, "synonyms": synonyms}


def parse_table(text: str, path: Path) -> list[Any]:
    """Rows of a .csv or .tsv file, whose first line names the columns.

    Raises:
        UserError: a broken table, unknown columns, or no column for names.
    """
    reader = csv.reader(io.StringIO(text), delimiter=_separator(text, path), strict=True)
    try:
        lines = [[cell.strip() for cell in line] for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise UserError(
            f"expected a table in {path}, got in line {reader.line_num}: {error}; correct the file"
        ) from None
    header, *rows = lines or [["name"]]  # an empty file is an empty list, which is refused later with a better error
    columns = [cell.lower() for cell in header]
    if not set(columns) & set(COLUMNS):
        raise UserError(
            f"expected a first line that names the columns, such as name,definition, in {path}, got "
            f"{', '.join(header)[:60]!r}; put one above the classes"
        )
    _check_columns(columns, f"the first line of {path}")
    if len(set(columns)) < len(columns) or not {"name", "synset"} & set(columns):
        raise UserError(f"expected a column name and none twice in {path}, got {header}; correct the first line")
    for number, row in enumerate(rows, 1):
        if len(row) > len(columns):
            raise UserError(
                f"expected {len(columns)} columns in class {number} of {path}, got {len(row)}; "
                "put quotes around texts that hold the separator"
            )
    return [dict(zip(columns, row, strict=False)) for row in rows]  # a row may end early: its last cells are empty


def _separator(text: str, path: Path) -> str:
    """What separates the cells: a tab in a .tsv; else what the first line has, since Excel writes ``;`` in Europe."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = next((line for line in text.splitlines() if line.strip()), "")
    return ";" if ";" in first and "," not in first else ","


def _parse_toml(text: str, path: Path) -> list[Any]:
    """The rows of a .toml file, which has one ``[[classes]]`` table per class."""
    data = parse_toml(text, dict[str, Any], str(path), remedy="correct the file")
    if list(data) != ["classes"] or not isinstance(data["classes"], list):
        raise UserError(
            f"expected only [[classes]] tables in {path}, got {str(data)[:60]}; write [[classes]] above each class"
        )
    return data["classes"]


def parse_json(text: str, path: Path) -> Any:
    """The value of a .json file.

    Raises:
        UserError: the text isn't JSON; the error names ``path``.
    """
    # Not by parse_document, which can't see a key that stands twice
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _without_repeats(pairs, path))
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested too deep
        raise UserError(f"expected JSON in {path}, got: {str(error)[:200]}; correct the file") from None
    return as_shape(found, Any, str(path), remedy="correct the file")


def _without_repeats(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """An object of a JSON file. Raises UserError where a key stands twice, of which Python would drop the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise UserError(f"expected every key once in {path}, got {name[:40]!r} twice; rename or remove one")
    return found


def rows_to_classes(rows: Iterable[Any], path: Path) -> list[ClassName]:
    """Rows as classes. Each row is checked by itself; ``lists.load_classes`` checks the list as a whole.

    Raises:
        UserError: a row without a name, with an unknown column, or with a value of the wrong type.
    """
    return [_row_to_class(row, f"class {number} of {path}") for number, row in enumerate(rows, 1)]


def _row_to_class(row: Any, place: str) -> ClassName:
    """One row as a class. Where there is a synset and no name, its id is the name until ``lists`` looks it up."""
    row = {"name": row} if isinstance(row, str) else row
    if not isinstance(row, dict) or not (row.get("name") or row.get("synset")):
        raise UserError(f"expected a name in {place}, got {str(row)[:60]!r}; give each class a name")
    _check_columns(row, place)
    synset = _text(row, "synset", place)
    return ClassName(
        # As one writes it: an "é" that is one character, and no blank that doesn't break
        name=unicodedata.normalize("NFC", _text(row, "name", place)).replace("\xa0", " ") or synset,
        definition=" ".join(_text(row, "definition", place).split()),  # it becomes a part of one-line prompts
        polysemous=_truth(row, "polysemous", place),
        synset=synset,
        synonyms=_texts(row, "synonyms", place),
        styles=_texts(row, "styles", place),
    )


def _check_columns(columns: Iterable[str], place: str) -> None:
    """Refuse unknown columns: a misspelled "synsets" would otherwise be ignored, and the classes drawn as they come."""
    for column in columns:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.4)
            advice = f"perhaps {near[0]}" if near else "name only these"
            if column in NUMBERING:
                advice = "take it away: the order of the rows numbers the classes"
            raise UserError(f"expected columns among {', '.join(COLUMNS)} in {place}, got {column[:40]!r}; {advice}")


def _text(row: dict[str, Any], column: str, place: str) -> str:
    """A column's text; empty where the row lacks it or has null."""
    value = row.get(column)
    if not isinstance(value, str | None):
        raise UserError(f"expected text as {column} in {place}, got {str(value)[:60]}; put it in quotes")
    return (value or "").strip()


def _texts(row: dict[str, Any], column: str, place: str) -> tuple[str, ...]:
    """A column's list of texts; in a table, where a cell is one text, they are separated by ``|`` or ``;``."""
    value = row.get(column) or []
    texts = re.split(r"[|;]", value) if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"expected a list of texts as {column} in {place}, got {str(value)[:60]}; put it in []")
    return tuple(text.strip() for text in texts if text.strip())


def _truth(row: dict[str, Any], column: str, place: str) -> bool:
    """A column's truth value; false where the row lacks it."""
    value = row.get(column) or False
    value = TRUTH_VALUES.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise UserError(f"expected true or false as {column} in {place}, got {str(row[column])[:60]}; correct it")
    return value
