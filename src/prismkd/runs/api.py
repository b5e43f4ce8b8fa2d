"""All stages from Python, also with a teacher, or a student, that is a module of the user's own.

result = prismkd.run(
    prismkd.Config(classes="names.txt"), "runs/mine", teacher=network.eval(),
    preprocessing=Preprocessing(3, (224, 224)), student=lambda: MyNetwork(num_classes=10),
)
result.top1["prism"]["id"], result.student("prism")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from torch import nn

from prismkd.classes.lists import classes_of
from prismkd.classifiers import Classifier, Preprocessing, as_teacher, load_classifier
from prismkd.classifiers.preprocessing import adjusted
from prismkd.config import Config
from prismkd.config.load import check_config
from prismkd.distillation.student import Factory
from prismkd.errors import UserError, warn
from prismkd.progress import bars, silent
from prismkd.records.directory import STUDENT, dataset_folder, read_json, run_folder
from prismkd.records.shapes import Metrics
from prismkd.runs import workers
from prismkd.runs.open import held, open_run
from prismkd.runs.stages import stages_of


@dataclass(frozen=True)
class RunResult:
    """What a finished run has: figures in memory, students and pages on the disk.

    Attributes:
        directory: the run's folder.
        metrics: what ``metrics.json`` holds: ``results`` (rows of method, seed, domain, metric, value, n, ci95),
            ``timings``, ``classes``, and where the figures come from.
    """

    directory: Path
    metrics: Metrics
    new_network: Factory | None = None

    @property
    def report(self) -> Path:
        """The page."""
        return self.directory / "report.html"

    @property
    def top1(self) -> dict[str, dict[str, float]]:
        """Accuracy in [0, 1] by method and domain, the mean over seeds; empty without test images."""
        return self._means("top1")

    @property
    def agreement(self) -> dict[str, dict[str, float]]:
        """The share of images, in [0, 1], on which student and teacher say the same: by method and domain, over seeds.

        Without test images the domains are those of held-out images: ``synthetic plain`` and ``synthetic diverse``.
        """
        return self._means("agreement")

    def _means(self, metric: str) -> dict[str, dict[str, float]]:
        values: dict[str, dict[str, list[float]]] = {}
        for row in self.metrics["results"]:
            if row["metric"] == metric and row["value"] is not None:
                values.setdefault(row["method"], {}).setdefault(row["domain"], []).append(row["value"])
        return {method: {name: fmean(own) for name, own in domains.items()} for method, domains in values.items()}

    def student(self, method: str = "prism", seed: int | None = None) -> Classifier:
        """A trained student, of images (batch, channels, height, width) in [0, 1] to logits; default: the first seed's.

        Raises:
            UserError: the run has no such student.
        """
        seed = self.metrics["seeds"][0] if seed is None else seed
        folder = dataset_folder(self.directory, seed, method) / STUDENT
        return load_classifier(folder, self.new_network and self.new_network())


def run(
    config: Config, out: Path | str, *, teacher: nn.Module | None = None, preprocessing: Preprocessing | None = None,
    student: Factory | None = None, progress: bool = False,
) -> RunResult:  # fmt: skip
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
        progress: show bars on stderr.

    Raises:
        UserError: as on the command line.
    """
    # Settings from files and flags are checked where they are read; these came from Python.
    check_config(config)
    directory = run_folder(out)
    given = None
    if teacher is not None:
        _check_one_process(config)
        # Checked before the folder is claimed, as all other input is.
        wanted = adjusted(preprocessing or Preprocessing(), config.teacher_preprocessing)
        given = as_teacher(teacher, len(classes_of(config)), wanted)
    opened = open_run(config, directory, "prismkd.run", bars if progress else silent, teacher=given, student=student)
    with held(opened):
        for stage in stages_of(config).values():
            # Each skips what is there, so the same call after a crash goes on where it ended.
            stage(opened)
    return RunResult(directory, read_json(directory / "metrics.json", Metrics), student)


def _check_one_process(config: Config) -> None:
    if config.synthesis.num_workers or config.synthesis.executor != "local":
        raise UserError(
            "expected synthesis.executor local and num_workers 0 for a teacher that is a module, which no worker can "
            "open; save it as a folder (prismkd.classifiers.save_classifier) and name that"
        )
    devices = workers.device_names(config.generator.device)
    if len(devices) > 1:
        warn(
            f"one process draws on one of the {len(devices)} devices here, since the teacher is a module, which no "
            "other process can open; to use all, save it as a folder (prismkd.classifiers.save_classifier) and name it"
        )
