"""``prismkd repair``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from prismkd.commands.endings import print_end
from prismkd.commands.opening import held_run
from prismkd.commands.run_arguments import RunArguments
from prismkd.config.authority import reserved_in


@dataclass(frozen=True)
class Arguments:
    """Draw again what is damaged, missing or was given up; the run's own settings hold."""

    accepts: ClassVar[str] = "--out DIR only, since the run's own settings hold"
    out: str
    """The run's folder."""
    trust: bool = False
    """Trust whoever made the run: its teacher may be a program, and its record name any place and address."""


def repair(arguments: Arguments) -> None:
    """Read every byte of the data sets again, and draw again what is not as it should be."""
    from prismkd.records.directory import recorded_config, run_folder

    recorded = recorded_config(run_folder(arguments.out), trust=arguments.trust)
    from_record = () if arguments.trust else tuple(reserved_in(recorded))
    settings = replace(recorded, trust=arguments.trust)
    with held_run(RunArguments(out=arguments.out, settings=settings, from_record=from_record)) as run:
        from prismkd.runs.drawing import repair

        repair(run)
        print_end(run, "repair")
