"""A command's words to its dataclass of arguments, by tyro; what it refuses becomes one line that says what to do."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from prismkd.commands.run_arguments import RunArguments
from prismkd.config import Config
from prismkd.config.authority import given_on, reserved_in, without_reserved
from prismkd.config.load import check_together, load_config
from prismkd.config.nearest import perhaps
from prismkd.config.ranges import check_fields, typed_fields, without_extras
from prismkd.errors import UserError
from prismkd.text import visible

Given = TypeVar("Given")
NUMBERS = ConstructorRegistry()
MIN_COLUMNS = 20


@NUMBERS.primitive_rule
def number_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Text that is no number stays text, which ``check_fields`` then refuses by the name of the setting."""
    kind = info.type
    if kind not in (int, float):
        return None

    def convert(words: list[str]) -> Any:
        try:
            return kind(words[0])
        except ValueError:
            return words[0]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=convert,
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def parse(kind: type[Given], command: str, words: Sequence[str]) -> Given:
    """The arguments that a command is given, every value checked; nothing of torch is imported.

    Args:
        kind: the command's dataclass; its docstrings are the help.
        command: its name.
        words: what stands behind the name.

    Raises:
        UserError: a word that is no flag of the command, a value that is missing, or one out of its range.
        SystemExit: with code 0, where help was asked for and printed.
    """
    _check_flags(kind, command, words)
    options: dict[str, Any] = {}
    if issubclass(kind, RunArguments):
        line = visible(" ".join(["prismkd", command, *words]))  # as a record can hold it
        settings, from_record = _settings_before_flags(words)
        options["default"] = kind(settings=settings, command_line=line, from_record=from_record)
    if shutil.get_terminal_size().columns < MIN_COLUMNS:  # tyro 1.0 breaks lines without end on very narrow ones
        os.environ["COLUMNS"] = str(MIN_COLUMNS)
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            parsed = tyro.cli(
                kind, prog=f"prismkd {command}", args=words, return_unknown_args=True, registry=NUMBERS,
                config=(tyro.conf.DisallowNone,), **options,
            )  # fmt: skip
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(_why(kind, command, words, complaint.getvalue())) from None
    arguments, unknown = cast(tuple[Given, list[str]], parsed)
    if unknown:
        raise UserError(_unexpected(kind, command, unknown, f"see `prismkd {command} --help`"))
    check_fields(arguments, written=_as_typed)
    if isinstance(arguments, RunArguments):
        check_together(arguments.settings)
    return arguments


def _settings_before_flags(words: Sequence[str]) -> tuple[Config, tuple[str, ...]]:
    """The file's settings, or those of the run that is there, or the defaults; and what the record alone names."""
    file, out = _last_value("--config", words), _last_value("--out", words)
    if file is not None:
        return load_config(Path(file)), ()
    if out is not None and (Path(out) / "run.json").is_file():
        from prismkd.records.directory import recorded_config  # here, since numpy comes with it: a third of the time

        recorded = recorded_config(Path(out), trust=True)
        if given_on(words, "trust"):
            return recorded, ()
        from_record = tuple(name for name in reserved_in(recorded) if not given_on(words, name))
        return without_reserved(recorded), from_record
    return Config(), ()


def _last_value(flag: str, words: Sequence[str]) -> str | None:
    found = None
    for word, following in zip_longest(words, words[1:]):
        if word == flag:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _as_typed(path: str) -> str:
    """How an error names a field: settings as in a file, options as on the command line."""
    return path.removeprefix("settings.") if path.startswith("settings.") else "--" + path.replace("_", "-")


# --- one line for what is wrong --------------------------------------------------------------------------------------


def flags_of(kind: type, prefix: str = "") -> dict[str, Any]:
    """Every flag of a dataclass of arguments with the type of its value; a switch's is bool."""
    found: dict[str, Any] = {}
    for name, hint in typed_fields(kind).items():
        plain, extras = without_extras(hint)
        if tyro.conf.Positional in extras or tyro.conf.Suppress in extras:
            continue
        shown = next((extra.name for extra in extras if getattr(extra, "name", None) is not None), name)
        if is_dataclass(plain) and isinstance(plain, type):
            found |= flags_of(plain, f"{prefix}{shown}." if shown else prefix)
            continue
        found[_flag(prefix + shown)] = plain
        if plain is bool:
            found[_flag(f"{prefix}no-{shown}")] = plain
    return found


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_flag(word: str | None) -> bool:
    return word is not None and word.startswith("--")


def _check_flags(kind: type, command: str, words: Sequence[str]) -> None:
    """Refuse what is no flag, and a flag without its value: tyro says both in a box, and takes a flag for a value."""
    flags = flags_of(kind)
    for place, word in enumerate(words):
        name = _flag(word[2:].partition("=")[0])
        if word == "--":  # positions only, from here on
            return
        if not _is_flag(word) or name == "--help" or name.startswith("--tyro-"):  # these make completions for a shell
            continue
        following = words[place + 1] if place + 1 < len(words) else None
        if name not in flags:
            values = takewhile(lambda value: not _is_flag(value), words[place + 1 :])
            known = [flag.removeprefix("--") for flag in flags]
            remedy = perhaps(name.removeprefix("--"), known, f"see `prismkd {command} --help`", prefix="--")
            raise UserError(_unexpected(kind, command, [word, *values], remedy))
        takes_one = flags[name] is not bool and get_origin(flags[name]) is not tuple
        if takes_one and "=" not in word and (following is None or _is_flag(following)):
            raise UserError(f"expected a value after {name}, got none; give one")


def _unexpected(kind: type, command: str, words: Sequence[str], remedy: str) -> str:
    expected = getattr(kind, "accepts", f"options of `prismkd {command}`")
    return f"expected {expected}, got {' '.join(words)}; {remedy}"


def _why(kind: type, command: str, words: Sequence[str], complaint: str) -> str:
    """Why tyro refused: something is missing; or else its own words."""
    flags = flags_of(kind)
    given = {_flag(word[2:].partition("=")[0]) for word in words if _is_flag(word)}
    required = [field.name for field in fields(cast(Any, kind)) if _is_required(field)]
    missing = [_flag(name) for name in required if _flag(name) in flags.keys() - given]
    positional = [name.upper() for name in required if _flag(name) not in flags]
    if missing or positional:
        expected = ", ".join(missing) or " ".join(positional)
        return f"expected {expected}, got {' '.join(words) or 'none'}; `prismkd {command} --help` says what it is"
    return f"expected what `prismkd {command} --help` lists, got: {_in_one_line(complaint)}; correct these words"


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _in_one_line(box: str) -> str:
    """Text that tyro framed, without frame and colors."""
    lines = (re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", "", line).strip(" |") for line in box.splitlines())
    return " ".join(line for line in lines if line.strip("+-"))
