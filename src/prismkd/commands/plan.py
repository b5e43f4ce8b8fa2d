"""``prismkd plan``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prismkd.commands.opening import opened
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table
from prismkd.config.ranges import PlainNumber

if TYPE_CHECKING:
    from prismkd.commands.estimate import Estimate


@dataclass(frozen=True)
class Arguments(RunArguments):
    """All decisions before the images; --dry-run measures a few images only: hours, GB, cost."""

    dry_run: bool = False
    """Measure and write nothing."""
    price: Annotated[str, PlainNumber()] = "0"
    """Of a device and hour, in any currency."""
    json: bool = False
    """Print the estimate as JSON."""


def plan(arguments: Arguments) -> None:
    """Estimate what the images cost; then, but for --dry-run, decide prompts and targets for all data sets."""
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


def print_estimate(found: Estimate) -> None:
    """Hours, gigabytes and cost before anything is drawn."""
    lines = [[row.method, f"{row.images:,}", f"{row.seconds_per_image:.4g}", f"{row.hours:.3g}", f"{row.gigabytes:.3g}"]
             for row in found.methods]  # fmt: skip
    header = ["method", "images", "seconds per image", "device hours", "GB"]
    print_table("What the images will cost", header, lines, left=1)
    total = sum(row.gigabytes for row in found.methods)
    text = (
        f"{found.device_hours:.3g} device hours, {found.device_hours / found.num_devices:.3g} h on {found.num_devices}"
    )
    cost = f", cost {found.device_hours * found.price:,.2f}" if found.price else ""
    plural = "s" * (found.num_devices > 1)
    print(f"{text} device{plural}, {total:.3g} GB{cost}; measured on {found.num_measured} images each")
