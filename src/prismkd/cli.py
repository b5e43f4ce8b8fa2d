"""The command line: the list of commands, and ``main``. Each command is one file of ``prismkd.commands``."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper

from prismkd import __version__
from prismkd.errors import UserError
from prismkd.progress import print_on_stderr
from prismkd.signals import EndingSignals, end_with_parent, line_of
from prismkd.text import printable

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # where what is printed goes
# Each with the first line of its own help: importing them all for it takes 0.12 s instead of 0.02 s (measured)
COMMANDS = {
    "run": "All stages: prompts, adapt, synthesize, distill, evaluate, report.",
    "senses": "Which wording of each class the teacher recognizes, as a table.",
    "prompts": "Class names to a prompt plan; --dry-run shows it and what it costs, and draws nothing.",
    "plan": "All decisions before the images; --dry-run measures a few images only: minutes of every stage, GB, cost.",
    "adapt": "The generator learns from the teacher, without data: an adapter for the methods that are adapted.",
    "synthesize": "Prompts to images, guided by the teacher where the method says so.",
    "status": "How far a run is, from its ledgers; it may be running.",
    "verify": "Read every byte of a run's data sets, or of one data set, again.",
    "repair": "Draw again what is damaged, missing or was given up; the run's own settings hold.",
    "export": "A finished data set in another layout, images keeping their bytes; or a student, with its model card.",
    "merge": "Several finished data sets of the same classes as one, numbered anew.",
    "distill": "Images to students.",
    "evaluate": "Students and images to metrics.json.",
    "report": "A run to one HTML page; `report RUN RUN ... --dest FILE` shows several side by side.",
    "doctor": "Is the teacher what it seems? Outputs, preprocessing, gradients, speed; before any image is drawn.",
    "compare": "Two runs, or two methods of one, on the same test images: which is better, and could it be chance?",
    "predict": "What a student sees on image files.",
    "push-to-hub": "What was exported, to the Hugging Face hub; without --yes it only says what would be sent.",
    "survival": "Does the guidance's energy gain survive resize, JPEG and re-encoding, and convince the judge?",
}
HELP = """prismkd {version}: data-free knowledge distillation with guided text-to-image diffusion

usage: prismkd COMMAND [--config FILE] --out DIR [settings]

commands:
{commands}

Every stage skips what is done already: to resume, give the same command again, or --out alone.
`prismkd COMMAND --help` lists all settings. Example:

  prismkd run --config configs/demo.toml --out runs/demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command and its words; None: those of this process, which then is the command's own, so that
            signals end it.

    Returns:
        The exit code: 0 done, 2 bad input, 130 interrupted. Signal n ends the process with 128 + n.
    """
    _open_standard_streams()
    if arguments is not None:
        return _outcome(list(arguments))
    signals = EndingSignals()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(os.getppid())  # torchrun, which killed can't end its ranks
    try:
        try:
            signals.start_raising()
            code = _outcome(sys.argv[1:], signals)
        finally:
            signals.stop_raising()
    except BaseException:
        if not signals.received():
            raise
    number = signals.received()
    if number:
        signals.end(number)
    return code


def _outcome(words: list[str], signals: EndingSignals | None = None) -> int:
    """Do the command. Errors that a user can mend are said in a line, unless a signal has caused them."""
    try:
        _dispatch(words)
    except BaseException as error:
        if signals and signals.received():
            raise
        return _report(error)
    return 0


def _report(error: BaseException) -> int:
    match error:
        case UserError():
            return _refuse(str(error))
        case SystemExit() if not error.code:  # tyro has printed a command's help
            return 0
        case BrokenPipeError():  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case OSError() if error.filename or error.errno in OF_THE_DISK:  # a path that no disk takes, or no room
            # No import may be needed to say this
            remedy = "allow more open files (ulimit -n)" if error.errno == errno.EMFILE else "check the path"
            return _refuse(f"expected {error.filename or 'room on the disk'}, got: {error.strerror}; {remedy}")
        case KeyboardInterrupt():
            print_on_stderr(line_of(signal.SIGINT))
            return 128 + signal.SIGINT
    from prismkd.memory import no_memory, ran_out_of_memory  # here, as most commands end well

    if ran_out_of_memory(error):
        return _refuse(str(no_memory(error)))
    raise error


def _dispatch(words: list[str]) -> None:
    """Do the command that the first word names, and write what it prints.

    That is written here and not at the end of the process, where Python would report a full disk in its own way.
    """
    try:
        _do(words)
    except BaseException:
        with suppress(OSError):
            _flush_output()
        raise
    _flush_output()


def _flush_output() -> None:
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        raise


def _open_standard_streams() -> None:
    """Open what the caller has closed: the next file opened would take its place, and get what libraries say there.

    What the locale's encoding can't say, such as half of a file's name, is printed as an escape on both.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _do(words: list[str]) -> None:
    """Do the command that the first word names.

    tyro's own subcommands would be as fast (measured: 0.13 s for the help of all, 0.2 s for one command's words, since
    it builds only the parser that is named). But the defaults of a command's settings are those of --config or --out,
    which tyro wants before it reads a word; so the first word is read here, and tyro parses that command alone.
    """
    name = words[0] if words else "help"
    if name in ("-h", "--help", "help"):
        lines = "\n".join(f"  {command:11s} {line}" for command, line in COMMANDS.items())
        print(HELP.format(version=__version__, commands=lines), end="")
    elif name in ("-V", "--version"):
        print(__version__)
    elif name in COMMANDS:
        from prismkd.commands.parsing import parse
        from prismkd.config.threads import wait_passively

        wait_passively()  # before a command imports torch
        function = name.replace("-", "_")
        module = import_module(f"prismkd.commands.{function}")
        getattr(module, function)(parse(module.Arguments, name, words[1:]))
    elif name == "bench":
        raise UserError(
            "expected a command, got bench, which is a program of the repository now; `python -m benchmarks.cost`"
        )
    else:
        from prismkd.config.nearest import perhaps

        remedy = perhaps(name, COMMANDS, f"use one of {', '.join(COMMANDS)}")
        raise UserError(f"expected a command, got {name!r}; {remedy}")


def _refuse(problem: str) -> int:
    print_on_stderr(f"error: {printable(problem)}")
    return 2
