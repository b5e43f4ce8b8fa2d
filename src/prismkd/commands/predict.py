"""``prismkd predict``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prismkd.commands.opening import stay_offline_for
from prismkd.commands.tables import print_table
from prismkd.config.ranges import Between
from prismkd.config.seeds import MAX_SEED
from prismkd.errors import UserError

if TYPE_CHECKING:
    from prismkd.delivery.predict import Prediction


@dataclass(frozen=True)
class Arguments:
    """What a student sees on image files."""

    student: tyro.conf.Positional[Path]
    """A folder that `prismkd export` made of a student, or a run's folder."""
    files: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, folders of them, and patterns such as "images/*.png"."""
    top: int = 3
    """Classes per file, the likeliest first."""
    json: bool = False
    """Print JSON."""
    method: str = "prism"
    """Which of a run's methods."""
    seed: Annotated[int | None, Between(0, MAX_SEED)] = None
    """Which of its seeds; default: the first."""


def predict(arguments: Arguments) -> None:
    """Print the likeliest classes of each file; unreadable ones are an error, after the others."""
    if arguments.top < 1:
        raise UserError(f"expected --top of at least 1, got {arguments.top}; raise it")
    if not arguments.files:
        raise UserError(
            f"expected a student and image files, got only {arguments.student}; name files or folders "
            "too, as in `prismkd predict STUDENT images/`"
        )
    stay_offline_for(arguments.student)
    from prismkd.delivery.image_files import find_images
    from prismkd.delivery.predict import load_student, predict_files

    student = load_student(arguments.student, arguments.method, arguments.seed)
    found = list(predict_files(student, find_images([str(path) for path in arguments.files]), arguments.top))
    if arguments.json:
        print(json.dumps([row.to_dict(student.about.names) for row in found], indent=1))
    else:
        print_predictions(found, student.about.names)
    failed = [row for row in found if row.problem]
    if failed:
        named = "; ".join(f"{row.file}: {row.problem}" for row in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise UserError(
            f"expected {len(found)} images, got {len(failed)} unreadable ({named}{more}); replace or remove them"
        )


def print_predictions(found: list[Prediction], names: list[str]) -> None:
    """What a student sees on each file."""
    lines = []
    for row in found:
        cells = [f"{names[label]} {probability:.1%}" for label, probability in row.top] or [row.problem]
        lines.append([str(row.file), cells[0], ", ".join(cells[1:])])
    failed = sum(bool(row.problem) for row in found)
    trouble = f", {failed} unreadable" if failed else ""
    print_table(f"{len(found):,} file{'s' * (len(found) != 1)}{trouble}", ["file", "class", "then"], lines, left=3)
