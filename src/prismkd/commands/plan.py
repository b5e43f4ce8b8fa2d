"""``prismkd plan``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prismkd.commands.opening import opened
from prismkd.commands.prompts import print_written
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table, show
from prismkd.config.ranges import PlainNumber
from prismkd.progress import duration

if TYPE_CHECKING:
    from prismkd.commands.estimate import Estimate


@dataclass(frozen=True)
class Arguments(RunArguments):
    """All decisions before the images; --dry-run measures a few images only: minutes of every stage, GB, cost."""

    dry_run: bool = False
    """Measure and write nothing."""
    price: Annotated[str, PlainNumber()] = "0"
    """Of a device and hour, in any currency."""
    json: bool = False
    """Print the estimate as JSON."""


def plan(arguments: Arguments) -> None:
    """Estimate what the run costs; then, but for --dry-run, decide prompts and targets for all data sets."""
    nowhere = Path() if arguments.dry_run and arguments.out is None else None
    run = opened(arguments, folder=nowhere, claim=not arguments.dry_run)
    from prismkd.commands.estimate import estimate
    from prismkd.runs.drawing import claim_datasets
    from prismkd.runs.open import held
    from prismkd.runs.stages import STAGES

    found = estimate(run, float(arguments.price))
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print_estimate(found)
    if arguments.dry_run:
        return
    with held(run):
        STAGES["prompts"](run)
        claim_datasets(run)
    if not arguments.json:
        print_written(run.directory)


def print_estimate(found: Estimate) -> None:
    """Minutes and gigabytes of every stage before anything is drawn, and the cost."""
    lines = [
        [row.stage, row.method, f"{row.count:,} {row.unit}" if row.unit else "", f"{row.seconds_each:.3g}",
         duration(60 * row.minutes), f"{row.gigabytes:.3g}" if row.bytes_each else ""]
        for row in found.stages
    ]  # fmt: skip
    header = ["stage", "method", "what", "seconds each", "time", "GB"]
    print_table("What the run will cost", header, lines, left=2)
    devices = (
        f" on {found.num_devices} devices, {duration(60 * found.device_minutes)} of one"
        if found.num_devices > 1
        else ""
    )
    cost = f", cost {found.cost:,.2f}" if found.cost is not None else ""
    show(f"{duration(60 * found.minutes)} in all{devices}, {found.gigabytes:.3g} GB{cost}")
    measured = ", ".join(f"{count} {unit}" for unit, count in found.measured.items() if count)
    show(f"measured in {found.seconds:.0f} s on {measured}")
