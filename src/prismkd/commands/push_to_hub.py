"""``prismkd push-to-hub``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from prismkd.commands.tables import print_table, show

if TYPE_CHECKING:
    from prismkd.delivery.hub import Upload

NUM_FILES_SHOWN = 20


@dataclass(frozen=True)
class Arguments:
    """What was exported, to the Hugging Face hub; without --yes it only says what would be sent."""

    folder: tyro.conf.Positional[Path]
    """What `prismkd export` made."""
    repo: str
    """The repository, org/name."""
    private: bool = False
    """Make the repository private."""
    yes: bool = False
    """Do it."""


def push_to_hub(arguments: Arguments) -> None:
    """Print what would be sent, and with --yes send it."""
    from prismkd.delivery.hub import plan_upload, upload

    plan = plan_upload(arguments.folder, arguments.repo, arguments.private)
    print_upload(plan)
    if arguments.yes:
        show(f"uploaded: {upload(plan)}")
    else:
        show("nothing was sent; give the same command with --yes to upload")


def print_upload(plan: Upload) -> None:
    """What would be sent where."""
    lines = [[name, f"{size:,}"] for name, size in list(plan.files.items())[:NUM_FILES_SHOWN]]
    if len(plan.files) > NUM_FILES_SHOWN:
        lines.append([f"and {len(plan.files) - NUM_FILES_SHOWN:,} more", ""])
    visibility = "private" if plan.private else "public"
    print_table(f"{plan.folder}", ["file", "bytes"], lines, left=1)
    show(f"{len(plan.files):,} files, {sum(plan.files.values()):,} bytes, to the {visibility} {plan.kind} repository "
          f"{plan.repository} on the Hugging Face hub")  # fmt: skip
