"""``prismkd run``."""

from __future__ import annotations

from dataclasses import dataclass

from prismkd.commands.evaluate import print_students
from prismkd.commands.opening import held_run
from prismkd.commands.run_arguments import RunArguments


@dataclass(frozen=True)
class Arguments(RunArguments):
    """All stages: prompts, synthesize, distill, evaluate, report."""


def run(arguments: Arguments) -> None:
    """Do every stage, skipping what is done; then print the students' accuracy and where the report is."""
    with held_run(arguments) as opened:
        from prismkd.runs.stages import STAGES

        for stage in STAGES.values():
            stage(opened)
    print_students(arguments.folder())
    print(f"report: {arguments.folder() / 'report.html'}")
