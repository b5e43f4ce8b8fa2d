"""The command line: the list of commands, and ``main``. Each command is one file of ``prismkd.commands``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from prismkd import __version__
from prismkd.config.nearest import perhaps
from prismkd.errors import UserError

COMMANDS = (
    "run",
    "senses",
    "prompts",
    "plan",
    "synthesize",
    "status",
    "verify",
    "repair",
    "export",
    "merge",
    "distill",
    "evaluate",
    "report",
    "doctor",
    "compare",
    "predict",
    "push-to-hub",
    "survival",
)
HELP = """prismkd {version}: data-free knowledge distillation with guided text-to-image diffusion

usage: prismkd COMMAND [--config FILE] --out DIR [settings]

commands:
{commands}

Every stage skips what is done already: to resume, give the same command again, or --out alone.
`prismkd COMMAND --help` lists all settings. Example:

  prismkd run --config configs/demo.toml --out runs/demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(words)
    except UserError as error:
        return _refuse(str(error))
    except SystemExit as end:  # tyro has printed a command's help
        if end.code:
            raise
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a path that no disk takes, or no room
        if not error.filename and error.errno != errno.ENOSPC:
            raise
        return _refuse(f"expected {error.filename or 'room on the disk'}, got: {error.strerror}; check the path")
    except KeyboardInterrupt:
        print("interrupted; give the same command again to continue", file=sys.stderr)
        return 130
    return 0


def _dispatch(words: list[str]) -> None:
    """Do the command that the first word names.

    tyro's own subcommands would be as fast (measured: 0.13 s for the help of all, 0.2 s for one command's words, since
    it builds only the parser that is named). But the defaults of a command's settings are those of --config or --out,
    which tyro takes before it reads a word; so the first word is read here, and tyro parses that command alone.
    """
    name = words[0] if words else "help"
    if name in ("-h", "--help", "help"):
        lines = "\n".join(f"  {command:11s} {_help_line(command)}" for command in COMMANDS)
        print(HELP.format(version=__version__, commands=lines), end="")
    elif name in ("-V", "--version"):
        print(__version__)
    elif name in COMMANDS:
        from prismkd.commands.parsing import parse

        module = _module(name)
        getattr(module, name.replace("-", "_"))(parse(module.Arguments, name, words[1:]))
    elif name == "bench":
        raise UserError(
            "expected a command, got bench, which is a program of the repository now; `python -m benchmarks.cost`"
        )
    else:
        remedy = perhaps(name, COMMANDS, f"use one of {', '.join(COMMANDS)}")
        raise UserError(f"expected a command, got {name!r}; {remedy}")


def _module(command: str) -> ModuleType:
    return import_module(f"prismkd.commands.{command.replace('-', '_')}")


def _help_line(command: str) -> str:
    return str(_module(command).Arguments.__doc__).partition("\n")[0]


def _refuse(problem: str) -> int:
    print(f"error: {' '.join(problem.splitlines())}", file=sys.stderr)
    return 2
