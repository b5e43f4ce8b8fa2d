"""``prismkd distill``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from prismkd.commands.opening import do_stage, opened
from prismkd.commands.run_arguments import RunArguments


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Images to students."""


def distill(arguments: Arguments) -> None:
    """Train every method's student; of several processes (torchrun) the first one holds the folder and writes."""
    if int(os.environ.get("RANK", 0)) == 0:
        do_stage(arguments, "distill")
        return
    run = opened(arguments, claim=False)
    from prismkd.runs.stages import STAGES

    STAGES["distill"](run)
