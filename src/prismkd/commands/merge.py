"""``prismkd merge``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from prismkd.commands.tables import show
from prismkd.progress import bars


@dataclass(frozen=True)
class Arguments:
    """Several finished data sets of the same classes as one, numbered anew."""

    dest: str
    """A new folder or URL."""
    sources: Annotated[tuple[str, ...], tyro.conf.arg(name="from", metavar="FOLDER...")] = field(default=())
    """Folders of shards, such as runs/a/seed-0/prism/images."""


def merge(arguments: Arguments) -> None:
    """Write the data set, and print how many images it has."""
    from prismkd.records.directory import lasting
    from prismkd.shards import Storage, read_manifest
    from prismkd.shards.export import merge

    sources = [Storage(source) for source in arguments.sources]
    total = sum(manifest.num_images for source in sources if (manifest := read_manifest(source)))
    with bars("merge", total) as progress:
        count = merge(sources, lasting(arguments.dest), progress)
    show(f"{count:,} images in {arguments.dest}")
    show(f"next: `prismkd verify --out {arguments.dest}` reads it all again, `prismkd export` writes other layouts")
