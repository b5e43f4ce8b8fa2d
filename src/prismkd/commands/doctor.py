"""``prismkd doctor``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prismkd.commands.early_checks import check_classifier
from prismkd.commands.opening import stay_offline
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table
from prismkd.config import Config
from prismkd.config.embedded import has_embedded_classes

if TYPE_CHECKING:
    import torch

    from prismkd.classifiers import Classifier
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
    stay_offline(config, arguments.from_record)
    from prismkd.classes.lists import classes_of
    from prismkd.commands.teacher_checks import examine, verdict
    from prismkd.generators import resolve_device

    names = [item.name for item in classes_of(config)] if _names_classes(config) else None
    device = resolve_device(config.generator.device)
    examined = examine(config.teacher, names, device, trust=config.trust, preprocessing=config.teacher_preprocessing)
    checks = [*examined.checks, *_on_test_images(config, examined.teacher, names, device)]
    if arguments.json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
    else:
        print_checks(checks)
    verdict(checks)


def _names_classes(config: Config) -> bool:
    """Whether the class list is one that was named: the default is that of the embedded teacher."""
    return config.teacher == "pictograms" or config.classes != "pictograms"


def _on_test_images(config: Config, teacher: Classifier, names: list[str] | None, device: torch.device) -> list[Check]:
    """The teacher's accuracy where there are test images of the classes; none where there aren't."""
    from prismkd.commands.teacher_checks import Check, accuracy
    from prismkd.runs.session import Session

    evaluation = config.evaluation
    is_embedded = evaluation.source in ("auto", "pictograms")
    if not evaluation.source or (is_embedded and (names is None or not has_embedded_classes(config))):
        return []
    if names is None:
        return [Check("accuracy", "warning", f"name the class list of {evaluation.source} with --classes to see it")]
    if len(names) != teacher.num_classes:
        return []  # the outputs' check has failed
    source = "pictograms" if is_embedded else evaluation.source
    session = Session(replace(config, evaluation=replace(evaluation, source=source)))
    session.__dict__["teacher"] = teacher  # where cached_property looks
    return accuracy(teacher, session.test, device, evaluation.restrict_below)


def print_checks(checks: list[Check]) -> None:
    """What was found of a teacher."""
    lines = [[check.name, check.status, check.text] for check in checks]
    print_table("The teacher", ["check", "", "found"], lines, left=3)
