"""``prismkd report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from prismkd.commands.opening import do_stage
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import show
from prismkd.config import Config
from prismkd.errors import UserError


@dataclass(frozen=True)
class Arguments(RunArguments):
    """A run to one HTML page; `report RUN RUN ... --dest FILE` shows several side by side."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of finished runs, instead of --out; they need no settings."""
    dest: Path | None = None
    """The page of several runs."""


def report(arguments: Arguments) -> None:
    """Write the page, and print where it is."""
    if not (arguments.runs or arguments.dest):
        do_stage(arguments, "report")
        show(f"report: {arguments.folder() / 'report.html'}; open it in a browser")
        return
    trust = arguments.settings.trust
    others = arguments.out or arguments.config or arguments.settings != Config(trust=trust)
    if others or (arguments.dest is None and len(arguments.runs) > 1):
        got = arguments.command_line.partition("report ")[2]
        raise UserError(f"expected a run, or several and --dest FILE, got {got}; give folders of runs and a file")
    from prismkd.records.directory import check_recorded_storage

    for folder in arguments.runs:
        check_recorded_storage(folder, trust=trust)
    from prismkd.report import write_comparison, write_report

    if arguments.dest is None:
        show(f"report: {write_report(arguments.runs[0])}")
    else:
        show(f"report: {write_comparison(list(arguments.runs), arguments.dest)}")
