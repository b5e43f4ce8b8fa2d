"""What a run's record may decide, and what only the command at hand may.

A run's folder may come from somebody else. Its record then says which classes, teacher and settings made it, and may
not say where this machine's keys are sent or where else its disk is written. ``RESERVED`` is the whole list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from prismkd.config.settings import Config
from prismkd.config.sources import is_hub_model, needs_the_web
from prismkd.errors import UserError

HUB, ELSEWHERE = "the network, where it names a model of a hub", "a place outside the run"


@dataclass(frozen=True)
class Reserved:
    """A setting that a record alone may not decide.

    Attributes:
        reaches: what it gives access to.
        otherwise: what holds where the record alone names it.
    """

    reaches: str
    otherwise: str


_NOT_ASKED = "no server is asked; refused where one would have to be"
_LOCAL = "this machine draws, with a warning"
_CACHED = "only what was fetched to this machine before"
RESERVED = {
    "trust": Reserved("code", "no program is opened"),
    "teacher": Reserved(HUB, _CACHED),
    "generator.source": Reserved(HUB, _CACHED),
    "generator.tiny_decoder": Reserved(HUB, _CACHED),
    "evaluation.judge": Reserved(HUB, _CACHED),
    "prompts.language_model.url": Reserved("the network", _NOT_ASKED),
    "prompts.language_model.key_variable": Reserved("the environment", "OPENAI_API_KEY"),
    "synthesis.storage": Reserved(ELSEWHERE, "refused"),
    "synthesis.executor": Reserved("the network, where it is ray", _LOCAL),
    "synthesis.ray_address": Reserved("the network", _LOCAL),
    "distillation.tracker": Reserved("the network, but for tensorboard", "no tracker, with a warning"),
}
# Those that a run can do without, as they change nothing in its results
LEFT_OUT = ("trust", "prompts.language_model.url", "prompts.language_model.key_variable", "synthesis.executor",
            "synthesis.ray_address", "distillation.tracker")  # fmt: skip


def reserved_in(config: Config) -> list[str]:
    """The reserved settings that ``config`` makes use of, in the order of ``RESERVED``."""
    return [name for name in RESERVED if _reaches_out(name, value_of(config, name))]


def without_reserved(config: Config) -> Config:
    """What a record may decide of its settings: those that a run can do without become their defaults."""
    names = [name for name in reserved_in(config) if name in LEFT_OUT]
    return reduce(lambda found, name: _with_value(found, name, value_of(Config(), name)), names, config)


def check_storage(storage: str, directory: Path, *, trust: bool) -> None:
    """Refuse a place for images that only a record names, unless it is in the run's own folder.

    Args:
        storage: ``synthesis.storage`` of the record.
        directory: the run's folder.
        trust: whether the command trusts whoever made the run.

    Raises:
        UserError: it is elsewhere.
    """
    inside = not storage or ("://" not in storage and Path(storage).resolve().is_relative_to(directory.resolve()))
    if not (inside or trust):
        raise UserError(
            f"expected the images in the run's folder {directory}, got {storage} from its record alone, which may not "
            "send this command elsewhere; name it with --synthesis.storage where the command has that, or give --trust "
            "if you trust whoever made the run"
        )


def given_on(words: Sequence[str], name: str) -> bool:
    """Whether a command's words have the flag of a setting."""
    flag = "--" + name.replace("_", "-")
    return any(word.partition("=")[0].replace("_", "-") == flag for word in words)


def value_of(config: Config, name: str) -> Any:
    """The value of a setting by its dotted name."""
    return reduce(getattr, name.split("."), config)


def _with_value(settings: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    return replace(settings, **{first: _with_value(getattr(settings, first), rest, value) if rest else value})


def _reaches_out(name: str, value: Any) -> bool:
    if RESERVED[name].reaches == HUB:
        # A list of teachers may name models of a hub
        return is_hub_model(value) if name.startswith("generator.") else needs_the_web(value) or value.endswith(".toml")
    return value not in (value_of(Config(), name), "tensorboard")
