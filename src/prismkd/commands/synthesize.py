"""``prismkd synthesize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from prismkd.commands.endings import print_end
from prismkd.commands.opening import check_begun, held_run
from prismkd.commands.run_arguments import RunArguments
from prismkd.config.ranges import WholeNumber
from prismkd.errors import UserError
from prismkd.records.lock import rank_lock


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Prompts to images, guided by the teacher where the method says so."""

    rank: Annotated[int | None, WholeNumber(0, 999_999)] = None
    """In an array job: which of the processes this is, from 0; it draws every WORLD-th shard."""
    world: Annotated[int | None, WholeNumber(1, 999_999)] = None
    """In an array job: how many processes there are."""


def synthesize(arguments: Arguments) -> None:
    """Draw every method's images, or a rank's share of them."""
    rank, world = arguments.rank, arguments.world
    if (rank is None) != (world is None):
        raise UserError("expected --rank and --world together, got one of them; give both")
    check_begun(arguments, "synthesize")
    lock = "run" if rank is None or world is None or world == 1 else rank_lock(rank, world)
    with held_run(arguments, lock) as run:
        from prismkd.runs.drawing import Share, synthesize

        synthesize(run, Share() if rank is None or world is None else Share(rank, world))
        print_end(run, "synthesize")
