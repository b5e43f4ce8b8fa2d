"""How the ranges of settings are said and checked; the ranges themselves stand on the fields in settings.py."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from prismkd.config.nearest import perhaps
from prismkd.errors import UserError
from prismkd.text import shortened

MAX_INT = 10**15  # numbers without an upper end of their own stay below; larger ones fit no counter, float or clock
PLAIN_NUMBER = r"(?=\.?[0-9])[0-9]{0,9}(\.[0-9]{0,9})?"


class Range(ABC):
    """Which values of a field's type it may take; stands in the field's ``Annotated``."""

    @abstractmethod
    def check(self, value: Any, name: str) -> None:
        """Raise UserError where ``value`` is not one of them; ``name`` is what the user calls the setting."""


@dataclass(frozen=True)
class Positive(Range):
    """Above 0."""

    def check(self, value: float, name: str) -> None:
        """As ``Range.check``."""
        if value <= 0:
            raise UserError(f"expected a positive {name}, got {value}; raise it")


@dataclass(frozen=True)
class AtLeast(Range):
    """``low`` or more."""

    low: float

    def check(self, value: float, name: str) -> None:
        """As ``Range.check``."""
        if value < self.low:
            raise UserError(f"expected a finite {name} of at least {self.low}, got {value}; correct it")


@dataclass(frozen=True)
class Between(Range):
    """From ``low`` to ``high``.

    Attributes:
        hint: what the error adds.
        open_low, open_high: whether the end itself is left out.
    """

    low: float
    high: float
    hint: str = "correct it"
    open_low: bool = False
    open_high: bool = False

    def check(self, value: float, name: str) -> None:
        """As ``Range.check``."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        if not (above and below):
            raise UserError(f"expected {self.describe(name)}, got {shortened(value)}; {self.hint}")

    def describe(self, name: str) -> str:
        """What was expected, in words."""
        if self.open_low:
            return f"{name} above {self.low} and up to {self.high}"
        return f"{name} from {self.low} to {'below ' * self.open_high}{self.high}"


@dataclass(frozen=True)
class WholeNumber(Between):
    """A count from ``low`` to ``high``."""

    high: float = MAX_INT

    def describe(self, name: str) -> str:
        """What was expected, in words."""
        return f"a whole number from {self.low} to {'10**15' if self.high == MAX_INT else self.high} for {name}"


@dataclass(frozen=True)
class OneOf(Range):
    """One of a few words."""

    choices: Sequence[str]

    def check(self, value: str, name: str) -> None:
        """As ``Range.check``."""
        if value not in self.choices:
            near = perhaps(value, self.choices, otherwise=f"perhaps {self.choices[0]}")
            raise UserError(f"expected {name} to be one of {', '.join(self.choices)}, got {shortened(value)}; {near}")


@dataclass(frozen=True)
class PlainNumber(Range):
    """Text of a number in digits, such as 2.50; neither negative nor with an exponent."""

    def check(self, value: str, name: str) -> None:
        """As ``Range.check``."""
        if not re.fullmatch(PLAIN_NUMBER, value):
            raise UserError(f"expected a number for {name}, got {shortened(value)}; write it in digits, such as 2.50")


@cache
def typed_fields(kind: type) -> dict[str, Any]:
    """The fields of a dataclass and their types, with their ranges in ``Annotated``."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def check_fields(settings: Any, *, ranges: bool = True, written: Callable[[str], str] = str, prefix: str = "") -> None:
    """Check every field of a dataclass, and of those in it, against its type and range.

    Args:
        settings: an instance.
        ranges: whether the ranges count, or the types alone.
        written: what the user calls a setting, from its path, such as ``generator.batch_size``.
        prefix: of the paths.

    Raises:
        UserError: the first value that doesn't fit, with what would.
    """
    of: type = type(settings)
    for name, kind in typed_fields(of).items():
        value = getattr(settings, name)
        if is_dataclass(value):
            check_fields(value, ranges=ranges, written=written, prefix=f"{prefix}{name}.")
        else:
            check_value(value, kind, written(prefix + name), ranges=ranges)


def check_value(value: Any, kind: Any, name: str, *, ranges: bool = True) -> None:
    """Check one value against its type, and where ``ranges`` is on against the ranges in the type's ``Annotated``.

    An int passes for a float and a list for a tuple, as in Python and in TOML. Floats are finite: neither nan nor
    infinity, which no setting means and JSON can't say.
    """
    kind, limits = without_extras(kind)
    if get_origin(kind) is UnionType:  # X | None
        if value is None:
            return
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple | list):
            raise UserError(f"expected a list for {name}, got {shortened(value)}; put it in [ ]")
        for item in value:
            check_value(item, get_args(kind)[0], name, ranges=ranges)
        return
    if not _has_type(value, kind):
        got = f"{shortened(value)} ({type(value).__name__})"
        raise UserError(f"expected {kind.__name__} for {name}, got {got}; correct the value")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"expected a finite {name}, got {value}; give a number")
    if isinstance(value, str):
        _check_text(value, name)
    own = [limit for limit in limits if isinstance(limit, Range)]
    for limit in own if ranges else ():
        limit.check(value, name)
    has_end = any(isinstance(limit, Between) for limit in own)
    if isinstance(value, int | float) and abs(value) >= MAX_INT and not has_end and (ranges or type(value) is int):
        raise UserError(f"expected a number below 10**15 for {name}, got a larger one; correct it")


def _check_text(text: str, name: str) -> None:
    """Refuse text that can't be a path, or that a record can't hold: names of files may be bytes that aren't UTF-8."""
    if "\0" in text:
        raise UserError(f"expected {name} without null characters, got {shortened(text)}; take them away")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"expected {name} in UTF-8, got {shortened(text)}; rename the file or folder, or correct it")


def without_extras(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its ``Annotated``, and what stands in there."""
    if get_origin(kind) is Annotated:
        kind, *extras = get_args(kind)
        return kind, tuple(extras)
    return kind, ()


def _has_type(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, float) or (type(value) is int and abs(value) < MAX_INT)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
