"""``prismkd status``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prismkd.commands.tables import print_table
from prismkd.config import METHODS
from prismkd.config.ranges import AtLeast

if TYPE_CHECKING:
    from prismkd.records.status import Status


@dataclass(frozen=True)
class Arguments:
    """How far a run is, from its ledgers; it may be running."""

    out: Path
    """The run's folder."""
    watch: Annotated[float, AtLeast(0)] = 0.0
    """Show it again every so many seconds, until all is done."""
    json: bool = False
    """Print JSON."""


def status(arguments: Arguments) -> None:
    """Print how far each data set and student is."""
    from prismkd.records.status import status_of

    while True:
        found = status_of(arguments.out)
        if arguments.json:
            print(json.dumps(found.to_dict(), indent=1))
        else:
            print_status(found)
        if not arguments.watch or found.finished:
            return
        time.sleep(arguments.watch)


def print_status(found: Status) -> None:
    """How far each data set and student is."""
    lines = []
    for job in found.jobs:
        draws = METHODS[job.method].draws_images
        shards = f"{job.shards:,}/{_known(job.shards_in_all)}" if draws else ""
        images = f"{job.images:,}/{_known(job.images_in_all)}" if draws else ""
        speed = f"{job.images_per_second:.3g}" if job.images_per_second else ""
        trouble = [f"{job.damaged} damaged"] * bool(job.damaged) + [f"{job.failed} given up"] * bool(job.failed)
        student = "evaluated" if job.evaluated else "trained" if job.student else ""
        lines.append(
            [job.method, str(job.seed), ", ".join(trouble), student, shards, images, f"{job.gigabytes:.3f}", speed]
        )
    header = ["method", "seed", "trouble", "student", "shards", "images", "GB", "images/s"]
    print_table("Data sets", header, lines, left=4)
    left = found.seconds_left
    if found.finished:
        print("all images are drawn")
    elif left is not None:
        print(f"about {left / 3600:.2f} h of one worker are left")
    print("at work: " + ("; ".join(found.workers) or "nobody"))


def _known(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
