"""Reading JSON and TOML that a person or another program may have touched: size, depth, numbers and types are checked.

A shape is what msgspec converts to: a ``TypedDict``, a dataclass, ``list[int]``, with ranges as
``Annotated[int, msgspec.Meta(ge=0)]``. Keys that a shape doesn't name are kept out of its checks: later versions may
have written them. Never put a bounded int beside a tuple of a fixed length, as in ``Annotated[int, Meta(ge=1)] |
tuple[int, int]``: msgspec 0.22 then reads foreign memory. A list with ``min_length`` and ``max_length`` is safe.
"""

from __future__ import annotations

import math
import re
import tomllib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from prismkd.errors import UserError
from prismkd.text import shortened, visible

MAX_BYTES = 2**28  # 256 MiB: the prompts of 20,000 classes are a tenth of it
MAX_DEPTH = 64  # of lists and tables in each other; our own records have seven
MAX_NUMBER = 2**63  # of whole numbers, as other programs read no larger ones
REMEDY = "correct the file, or bring it back from a copy"

# tomllib needs minutes for a key of 50,000 parts, bare or in quotes
LONG_KEY = re.compile(
    rb"""(?<![\w\\-]) (?: (?: [\w-]++ | "(?:[^"\\\n]|\\.)*+" | '[^'\n]*+' ) [ \t]*+ \. [ \t]*+ ){%d}"""
    % (MAX_DEPTH + 1),
    re.VERBOSE,
)

T = TypeVar("T")


def read_document(path: Path, shape: type[T], *, remedy: str = REMEDY) -> T:
    """The JSON in a file, checked.

    Args:
        path: of the file.
        shape: the type that the document is to have; ``dict[str, Any]`` where only its outermost kind is known.
        remedy: what the error tells the user to do.

    Raises:
        FileNotFoundError: there is no such file, which is an answer to the caller.
        UserError: it can't be read, is no JSON, or of another shape: names the file and the field.
    """
    return parse_document(_bytes_of(path, remedy), shape, str(path), remedy=remedy)


def parse_document(data: bytes | str, shape: type[T], name: str, *, remedy: str = REMEDY) -> T:
    """The JSON in ``data``, checked; as ``read_document``.

    Args:
        data: UTF-8.
        shape: the type that the document is to have.
        name: what errors call it, such as its path.
        remedy: what the error tells the user to do.

    Raises:
        UserError: it is no JSON, or of another shape.
    """
    mark = "\ufeff" if isinstance(data, str) else BOM_UTF8  # what some editors put in front
    try:
        # Refuses NaN, infinity and half a surrogate pair by itself, which Python's own reader lets pass
        document = msgspec.json.decode(data.removeprefix(mark))  # type: ignore[arg-type]
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UserError(f"expected JSON of finite numbers in {name}, got {_reason(error)}; {remedy}") from None
    return as_shape(document, shape, name, remedy=remedy)


def read_toml(path: Path, shape: type[T], *, remedy: str = REMEDY) -> T:
    """The TOML in a file, checked; as ``read_document``."""
    return as_shape(_parsed_toml(_bytes_of(path, remedy), str(path), remedy), shape, str(path), remedy=remedy)


def parse_toml(data: bytes | str, shape: type[T], name: str, *, remedy: str = REMEDY) -> T:
    """The TOML in ``data``, checked; as ``parse_document``."""
    contents = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return as_shape(_parsed_toml(contents, name, remedy), shape, name, remedy=remedy)


def _parsed_toml(data: bytes, name: str, remedy: str) -> dict[str, Any]:
    if LONG_KEY.search(data):
        raise UserError(f"expected keys of at most {MAX_DEPTH} parts in {name}, got longer ones; {remedy}")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError, OverflowError) as error:
        raise UserError(f"expected TOML in {name}, got {_reason(error)}; {remedy}") from None


def as_shape(document: Any, shape: type[T], name: str, *, remedy: str = REMEDY) -> T:
    """Plain data, such as of JSON, as ``shape``; as ``parse_document``."""
    _check_values(document, name, remedy)
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".")
        place = f" at {field[:200]}" if field else ""
        expected, _, got = what.removeprefix("Expected ").partition(", got ")
        if not got:  # as of a number out of its range, or a field that is missing
            expected, got = "other contents", f"this: {what[:200]}"
        raise UserError(f"expected {expected[:200]} in {name}, got {got[:200]}{place}; {remedy}") from None


def check_shape(document: Any, shape: Any, name: str, *, remedy: str = REMEDY) -> None:
    """As ``as_shape``, for who goes on with the document itself, in which keys that the shape doesn't name stay."""
    as_shape(document, shape, name, remedy=remedy)


def _bytes_of(path: Path, remedy: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"expected at most {MAX_BYTES / 2**20:.0f} MiB in {path}, got {size:,} bytes; {remedy}")
        if not path.is_file():
            raise UserError(f"expected a file at {path}, got a folder or a device; {remedy}")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"expected to read {path}, got: {error.strerror}; check its permissions") from None


def _check_values(document: Any, name: str, remedy: str) -> None:
    """Refuse what no shape says anything about: too deep, a number that isn't finite, half a surrogate pair."""
    level: list[Any] = [[document]]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[Any] = []
        for value in level:
            inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            # Of 10,000 classes' prompts a million values are plain text, which costs .04 s here
            deeper += [item for item in inner if not (type(item) is str and item.isascii())]
        if not all(map(_is_usable, deeper)):
            where, bad = next((place, item) for place, item in _places(document) if not _is_usable(item))
            raise UserError(f"expected {_usable(bad)}{where} in {name}, got {shortened(bad)}; {remedy}")
        level = [value for value in deeper if isinstance(value, dict | list)]
        if not level:
            return
    raise UserError(f"expected at most {MAX_DEPTH} lists and tables in each other in {name}, got more; {remedy}")


def _is_usable(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return -MAX_NUMBER <= value < MAX_NUMBER
    if type(value) is str:
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return True


def _usable(value: Any) -> str:
    """What a value of this type should be, in words."""
    return {float: "a finite number", int: "a number of 64 bits"}.get(type(value), "text of whole characters")


def _places(document: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with the place that it has in a document, such as `` as rows[2].share``, level by level."""
    level = [(place, document)]
    while level:
        deeper: list[tuple[str, Any]] = []
        for where, value in level:
            yield (f" as {where.removeprefix('.')}" if where else ""), value
            if isinstance(value, dict):
                deeper += [(where, key) for key in value]
                deeper += [(f"{where}.{visible(str(key)[:60])}", item) for key, item in value.items()]
            elif isinstance(value, list):
                deeper += [(f"{where}[{number}]", item) for number, item in enumerate(value)]
        level = deeper


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or tables that are too deep in each other"
    return f"something else ({str(error)[:200]})"
