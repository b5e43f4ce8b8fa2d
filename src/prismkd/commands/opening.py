"""How a command opens a run: checks that need no torch, then torch, then the folder, which one command holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prismkd.commands.early_checks import check_early, check_unclaimed
from prismkd.commands.run_arguments import RunArguments
from prismkd.config import Config
from prismkd.config.sources import needs_the_web
from prismkd.errors import UserError
from prismkd.progress import bars

if TYPE_CHECKING:
    from prismkd.runs.run import Run


def opened(arguments: RunArguments, *, folder: Path | None = None, claim: bool = True) -> Run:
    """The run in its folder, with progress bars.

    Args:
        arguments: as parsed.
        folder: None: the one that was named.
        claim: whether the folder becomes the run's; else nothing is written there.

    Raises:
        UserError: bad input, or another run's folder.
    """
    from prismkd.records.directory import lasting

    folder = folder or arguments.folder()
    lasting(arguments.settings.synthesis.storage)
    check_early(arguments.settings)
    if claim:
        check_unclaimed(folder)
    stay_offline(arguments.settings)
    from prismkd.runs.open import open_run

    return open_run(arguments.settings, folder, arguments.command_line, bars, claim=claim)


@contextmanager
def held_run(arguments: RunArguments, lock: str = "run") -> Iterator[Run]:
    """The run, opened, which no other command touches meanwhile; ``lock`` names a part of it where it is shared."""
    run = opened(arguments)
    from prismkd.runs.open import held

    with held(run, lock):
        yield run


def do_stage(arguments: RunArguments, name: str, before_end: Callable[[], None] = lambda: None) -> None:
    """One of the stages, of all methods and seeds; at its end, what it wrote and what comes next.

    ``before_end`` prints what the stage has found.

    Raises:
        UserError: bad input, or what an earlier stage makes isn't there.
    """
    if name in ("evaluate", "report"):
        _check_begun(arguments.folder())
    with held_run(arguments) as run:
        from prismkd.commands.endings import print_end
        from prismkd.runs.stages import STAGES

        _check_earlier_stage(run, name)
        STAGES[name](run)
        before_end()
        if name != "report":
            print_end(run, name)


def _check_begun(folder: Path) -> None:
    """Refuse a folder without a run, rather than begin one that has nothing to measure or to show."""
    from prismkd.records.directory import is_run

    if not is_run(folder):
        got = f"{folder}, which has no run.json" if folder.is_dir() else f"{folder}, where there is nothing"
        raise UserError(f"expected a run's folder, got {got}; check --out, or start one with `prismkd run`")


def _check_earlier_stage(run: Run, name: str) -> None:
    """Say which command comes first, where a stage would miss a file of another one."""
    from prismkd.shards import is_begun

    out = run.directory
    for dataset in run.drawn if name == "distill" else ():
        if not is_begun(dataset.storage):
            raise UserError(
                f"expected images of {dataset.title} in {out}, got none; run `prismkd synthesize --out {out}` first"
            )


def stay_offline(config: Config) -> None:
    """Nothing but a hub model ever needs the network; has to be said before the libraries are imported.

    Their own bars then have nothing to show but files of this machine that are opened, and in a log they are noise.
    """
    named = (config.generator.source, config.generator.tiny_decoder)
    classifiers = (config.teacher, config.evaluation.judge)
    offline = not any("/" in name and not Path(name).exists() for name in named) and not any(
        map(needs_the_web, classifiers)
    )
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if offline or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers asks it, too
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
