"""From Python: the same run as on the command line, with a teacher, or a student, that is a module of yours.

from prismkd.api import run
from prismkd.config import Config
from prismkd.teachers import Preprocessing

run(Config(classes="names.txt"), "runs/mine", teacher=network.eval(), preprocessing=Preprocessing(3, (224, 224)),
    student=lambda: MyNetwork(num_classes=10))
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from prismkd.runs.order import STAGES
from prismkd.config import Config
from prismkd.config.load import check_config
from prismkd.records.directory import run_folder
from prismkd.distillation.student import Factory
from prismkd.errors import UserError
from prismkd.classes.lists import classes_of
from prismkd.runs.run import held, open_run, silent
from prismkd.classifiers import Preprocessing, as_teacher


def run(
    config: Config, out: Path | str, *, teacher: nn.Module | None = None, preprocessing: Preprocessing | None = None,
    student: Factory | None = None,
) -> Path:  # fmt: skip
    """All stages: prompts, synthesize, distill, evaluate, report. The same call again resumes.

    Args:
        config: as a TOML file would give it.
        out: the run's folder.
        teacher: a network in evaluation mode, of images as ``preprocessing`` gives them, to logits (batch, classes);
            None: what ``config.teacher`` names. Worker processes can't be given a module: those need a folder.
        preprocessing: from images (batch, channels, height, width) in [0, 1] to the teacher's input.
        student: makes a new network, of images (batch, channels, height, width) in [0, 1] to logits (batch, classes),
            at each call; None: what ``config.distillation.architecture`` names. Its weights are in the run's folder
            (``seed-0/prism/student/model.safetensors``); commands that need the network itself, such as export, can't
            build it.

    Returns:
        The path of the report.

    Raises:
        UserError: as on the command line.
    """
    check_config(config)
    directory = run_folder(out)
    given = None
    if teacher is not None:
        _check_one_process(config)
        given = as_teacher(teacher, len(classes_of(config)), preprocessing or Preprocessing())
    opened = open_run(config, directory, "prismkd.runs.run", silent, teacher=given, student=student)
    with held(opened):
        for stage in STAGES.values():
            stage(opened)
    return directory / "report.html"


def _check_one_process(config: Config) -> None:
    if config.synthesis.num_workers or config.synthesis.executor != "local":
        raise UserError(
            "expected synthesis.executor local and num_workers 0 for a teacher that is a module, which no worker can "
            "open; save it as a folder (prismkd.classifiers.save_classifier) and name that"
        )
