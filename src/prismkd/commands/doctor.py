"""``prismkd doctor``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prismkd.commands.early_checks import check_classifier
from prismkd.commands.opening import stay_offline
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table

if TYPE_CHECKING:
    from prismkd.commands.teacher_checks import Check


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Is the teacher what it seems? Outputs, preprocessing, gradients, speed; before any image is drawn."""

    json: bool = False
    """Print JSON."""


def doctor(arguments: Arguments) -> None:
    """Examine the teacher and print what was found; a failed check is an error."""
    config = arguments.settings
    check_classifier("teacher", config.teacher)
    stay_offline(config)
    from prismkd.classes.lists import classes_of
    from prismkd.commands.teacher_checks import examine, verdict
    from prismkd.generators import resolve_device

    named = config.teacher == "pictograms" or config.classes != "pictograms"  # else no list was given
    names = [item.name for item in classes_of(config)] if named else None
    checks = examine(config.teacher, names, resolve_device(config.generator.device), trust=config.trust)
    if arguments.json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
    else:
        print_checks(checks)
    verdict(checks)


def print_checks(checks: list[Check]) -> None:
    """What was found of a teacher."""
    lines = [[check.name, check.status, check.text] for check in checks]
    print_table("The teacher", ["check", "", "found"], lines, left=3)
