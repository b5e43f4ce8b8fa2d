"""prismkd: data-free knowledge distillation with guided text-to-image diffusion (PRISM, arXiv 2509.16897).

EDA              energy-guided images of a diffusers pipeline of yours, under a classifier of yours
plan             diversified prompts for a class list
distill          a student from a teacher and images
evaluate         a student's scores on test images, with intervals
metrics          precision, recall, density, coverage, Frechet and kernel distance, Vendi score, ...
load_teacher     a classifier by name or folder; Preprocessing is what a network of yours wants of an image
load_generator   a diffusers pipeline by name or folder
run, Session     all stages of a run, as on the command line; Config and its sections are their settings

Each name is imported when it is first used, so that ``import prismkd`` imports neither torch nor diffusers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prismkd.errors import UserError

if TYPE_CHECKING:  # for type checkers and editors; _MODULES says the same to Python
    from prismkd import metrics
    from prismkd.classifiers import Classifier, Preprocessing, load_teacher
    from prismkd.config import Config, DistillationConfig, GeneratorConfig, GuidanceConfig
    from prismkd.distillation import TrainedStudent, TrainingSet, distill
    from prismkd.evaluation.scores import Scores, evaluate
    from prismkd.generators import load_generator
    from prismkd.guidance import Calibration
    from prismkd.prompts.without_teacher import plan
    from prismkd.runs.api import run
    from prismkd.runs.session import Session
    from prismkd.synthesis.eda import EDA, Guided

__version__ = "0.1.0"
__all__ = [
    "EDA",
    "Calibration",
    "Classifier",
    "Config",
    "DistillationConfig",
    "GeneratorConfig",
    "GuidanceConfig",
    "Guided",
    "Preprocessing",
    "Scores",
    "Session",
    "TrainedStudent",
    "TrainingSet",
    "UserError",
    "__version__",
    "distill",
    "evaluate",
    "load_generator",
    "load_teacher",
    "metrics",
    "plan",
    "run",
]

_MODULES = {
    "EDA": "prismkd.synthesis.eda",
    "Calibration": "prismkd.guidance",
    "Classifier": "prismkd.classifiers",
    "Config": "prismkd.config",
    "DistillationConfig": "prismkd.config",
    "GeneratorConfig": "prismkd.config",
    "GuidanceConfig": "prismkd.config",
    "Guided": "prismkd.synthesis.eda",
    "Preprocessing": "prismkd.classifiers",
    "Scores": "prismkd.evaluation.scores",
    "Session": "prismkd.runs.session",
    "TrainedStudent": "prismkd.distillation",
    "TrainingSet": "prismkd.distillation",
    "distill": "prismkd.distillation",
    "evaluate": "prismkd.evaluation.scores",
    "load_generator": "prismkd.generators",
    "load_teacher": "prismkd.classifiers",
    "metrics": "prismkd",  # the package itself
    "plan": "prismkd.prompts.without_teacher",
    "run": "prismkd.runs.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'prismkd' has no attribute {name!r}")
    if name == "metrics":
        return import_module("prismkd.metrics")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
