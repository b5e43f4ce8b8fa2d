"""Commands on delivered students: predictions for files, and the way to the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from prismkd.commands import console
from prismkd.errors import UserError


@dataclass(frozen=True)
class PredictArguments:
    """What a student sees on image files."""

    student: tyro.conf.Positional[Path]
    """A folder that `prismkd export` made of a student, or a run's folder."""
    files: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders of them, and patterns such as "images/*.png"."""
    top: int = 3
    """Classes per file, the likeliest first."""
    json: bool = False
    """Print JSON."""
    method: str = "prism"
    """Which of a run's methods."""
    seed: int | None = None
    """Which of its seeds; default: the first."""


@dataclass(frozen=True)
class PushArguments:
    """Upload a delivered student or an exported data set to the Hugging Face hub; without --yes it only says what."""

    folder: tyro.conf.Positional[Path]
    """What `prismkd export` made."""
    repo: str
    """The repository, org/name."""
    private: bool = False
    """Make the repository private."""
    yes: bool = False
    """Do it."""


def predict(arguments: list[str]) -> None:
    """``prismkd predict``."""
    asked = tyro.cli(PredictArguments, args=arguments, prog="prismkd predict")
    if asked.top < 1 or not asked.files:
        got = f"--top {asked.top}" if asked.files else "no files"
        raise UserError(f"expected image files, and --top of at least 1, got {got}; mend it")
    from prismkd.delivery.image_files import find_images
    from prismkd.delivery.predict import load_student, predict_files

    student = load_student(asked.student, asked.method, asked.seed)
    found = list(predict_files(student, find_images(asked.files), asked.top))
    if asked.json:
        print(json.dumps([row.to_dict(student.about.names) for row in found], indent=1))
    else:
        console.print_predictions(found, student.about.names)
    failed = [row for row in found if row.problem]
    if failed:
        named = "; ".join(f"{console.printable(str(row.file))}: {row.problem}" for row in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise UserError(f"expected {len(found)} images, got {len(failed)} unreadable ({named}{more}); mend them")


def push_to_hub(arguments: list[str]) -> None:
    """``prismkd push-to-hub``."""
    asked = tyro.cli(PushArguments, args=arguments, prog="prismkd push-to-hub")
    from prismkd.delivery.hub import plan_upload, upload

    plan = plan_upload(asked.folder, asked.repo, asked.private)
    console.print_upload(plan)
    if asked.yes:
        print(f"uploaded: {upload(plan)}")
    else:
        print("nothing was sent; give the same command with --yes to upload")
