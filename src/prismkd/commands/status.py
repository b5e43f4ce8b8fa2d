"""``prismkd status``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prismkd.commands.tables import print_table, show
from prismkd.config import METHODS
from prismkd.config.ranges import AtLeast
from prismkd.progress import duration

if TYPE_CHECKING:
    from prismkd.records.status import DatasetStatus, Status


@dataclass(frozen=True)
class Arguments:
    """How far a run is, from its ledgers; it may be running."""

    out: Path
    """The run's folder."""
    trust: bool = False
    """Trust whoever made the run: its record may name a place outside of its folder for the images."""
    watch: Annotated[float, AtLeast(0)] = 0.0
    """Show it again every so many seconds, until all is done."""
    json: bool = False
    """Print JSON."""


def status(arguments: Arguments) -> None:
    """Print how far each dataset and student is."""
    from prismkd.records.directory import check_recorded_storage
    from prismkd.records.status import status_of

    check_recorded_storage(arguments.out, trust=arguments.trust)
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
    """How far each dataset and student is."""
    lines = [_line(dataset) for dataset in found.datasets]
    header = ["method", "seed", "trouble", "student", "shards", "images", "GB", "images/s"]
    print_table("Data sets", header, lines, left=4)
    left = found.seconds_left
    if found.finished:
        show("all images are drawn")
    elif left is not None:
        show(f"about {duration(left)} of one worker are left")
    show("at work: " + ("; ".join(found.workers) or "nobody"))


def _line(dataset: DatasetStatus) -> list[str]:
    draws = METHODS[dataset.method].draws_images
    shards = f"{dataset.shards:,}/{_known(dataset.shards_in_all)}" if draws else ""
    images = f"{dataset.images:,}/{_known(dataset.images_in_all)}" if draws else ""
    speed = f"{dataset.images_per_second:.3g}" if dataset.images_per_second else ""
    damaged = [f"{dataset.damaged} damaged"] if dataset.damaged else []
    failed = [f"{dataset.failed} given up"] if dataset.failed else []
    trouble = ", ".join(damaged + failed)
    student = "evaluated" if dataset.evaluated else "trained" if dataset.student else ""
    gigabytes = f"{dataset.gigabytes:.3f}"
    return [dataset.method, str(dataset.seed), trouble, student, shards, images, gigabytes, speed]


def _known(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
