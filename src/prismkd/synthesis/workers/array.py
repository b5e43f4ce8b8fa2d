"""The ranks of an array job: each takes its share of the units, and none talks to another."""

from __future__ import annotations

from collections.abc import Sequence

from prismkd.errors import UserError


def check_rank(rank: int, world: int) -> None:
    """Refuse what is no place among ``world`` processes.

    Raises:
        UserError: rank and world don't fit.
    """
    if not 0 <= rank < world:
        raise UserError(
            f"expected --rank from 0 to below --world, got {rank} and {world}; give both, as in --rank 3 --world 8"
        )


def units_of_rank(units: Sequence[int], rank: int, world: int) -> list[int]:
    """Every ``world``-th unit by its number, so that a rank's share doesn't depend on what others have done already."""
    # By the number modulo the world and not by the place in the list, which shrinks as others finish.
    return [unit for unit in units if unit % world == rank]
