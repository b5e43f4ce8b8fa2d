"""``prismkd repair``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from prismkd.commands.endings import print_end
from prismkd.commands.opening import held_run
from prismkd.commands.run_arguments import RunArguments


@dataclass(frozen=True)
class Arguments:
    """Draw again what is damaged, missing or was given up; the run's own settings hold."""

    accepts: ClassVar[str] = "--out DIR only, since the run's own settings hold"
    out: str
    """The run's folder."""
    trust: bool = False
    """Open a teacher that is a program (exported, torchscript), which may run any code."""


def repair(arguments: Arguments) -> None:
    """Read every byte of the data sets again, and draw again what is not as it should be."""
    from prismkd.records.directory import recorded_config, run_folder

    settings = replace(recorded_config(run_folder(arguments.out)), trust=arguments.trust)
    with held_run(RunArguments(out=arguments.out, settings=settings)) as run:
        from prismkd.runs.drawing import repair

        repair(run)
        print_end(run, "repair")
