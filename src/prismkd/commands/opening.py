"""How a command opens a run: checks that need no torch, then torch, then the folder, which one command holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prismkd.commands.early_checks import check_early, check_unclaimed
from prismkd.commands.run_arguments import RunArguments
from prismkd.config import Config
from prismkd.config.authority import HUB, RESERVED, check_storage, reserved_in
from prismkd.config.methods import METHODS
from prismkd.errors import UserError, warn
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
    check_reserved(arguments, folder)
    lasting(arguments.settings.synthesis.storage)
    check_early(arguments.settings)
    if claim:
        check_unclaimed(folder)
    stay_offline(arguments.settings, arguments.from_record)
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
    check_begun(arguments, name)
    with held_run(arguments) as run:
        from prismkd.commands.endings import print_end
        from prismkd.runs.stages import STAGES

        _check_earlier_stage(run, name)
        STAGES[name](run)
        before_end()
        if name != "report":
            print_end(run, name)


def check_begun(arguments: RunArguments, name: str) -> None:
    """Refuse a folder without a run, rather than begin one that has no input for the stage.

    Raises:
        UserError: there is no run, and the stage needs what an earlier one makes.
    """
    from prismkd.records.directory import is_run

    draws = any(METHODS[method].draws_images for method in arguments.settings.methods if method in METHODS)
    if name == "prompts" or (name in ("synthesize", "distill") and not draws):
        return  # the first one, or there is nothing to draw for a student of real images
    folder = arguments.folder()
    if not is_run(folder):
        got = f"{folder}, which has no run.json" if folder.is_dir() else f"{folder}, where there is nothing"
        first = "`prismkd run`, or stage by stage with `prismkd prompts`"
        raise UserError(f"expected a run's folder, got {got}; check --out, or start one with {first}")


def _check_earlier_stage(run: Run, name: str) -> None:
    """Say which command comes first, where a stage would miss a file of another one."""
    from prismkd.shards import is_begun

    out = run.directory
    for dataset in run.drawn if name == "distill" else ():
        if not is_begun(dataset.storage):
            raise UserError(
                f"expected images of {dataset.title} in {out}, got none; run `prismkd synthesize --out {out}` first"
            )


def check_reserved(arguments: RunArguments, folder: Path) -> None:
    """Say what the run's record names and may not decide.

    Raises:
        UserError: images elsewhere.
    """
    if "synthesis.storage" in arguments.from_record:
        check_storage(arguments.settings.synthesis.storage, folder, trust=False)
    for name in ("synthesis.executor", "synthesis.ray_address", "distillation.tracker"):
        if name in arguments.from_record:
            warn(f"the run's record names {name}, which only a command may: {RESERVED[name].otherwise}")


def stay_offline_for(folder: Path, *, trust: bool = False) -> None:
    """Nothing is fetched that the record of a run alone names, as no flag of the command can; as ``stay_offline``."""
    from prismkd.records.directory import is_run, recorded_config

    if is_run(folder):
        config = recorded_config(folder, trust=trust)
        stay_offline(config, () if trust else reserved_in(config))


def stay_offline(config: Config, from_record: Sequence[str] = ()) -> None:
    """Nothing but a hub model that the command names needs the network; has to be said before libraries are imported.

    Their own bars then have nothing to show but files of this machine that are opened, and in a log they are noise.

    Args:
        config: the settings.
        from_record: settings that the run's record alone names, for which nothing is fetched.
    """
    hubs = [name for name in reserved_in(config) if RESERVED[name].reaches == HUB]
    offline = not hubs or any(name in from_record for name in hubs)
    if hubs and offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    elif offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if offline or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers asks it, too
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
