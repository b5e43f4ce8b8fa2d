"""Teachers: any classifier as a differentiable function of images in [0, 1]."""

from prismkd.teachers.classifier import Classifier, as_teacher
from prismkd.teachers.ensemble import Ensemble
from prismkd.teachers.folders import load_classifier, save_classifier
from prismkd.teachers.preprocessing import Preprocessing
from prismkd.teachers.smooth import smooth_backward
from prismkd.teachers.sources import load_judge, load_source, load_teacher, needs_the_web, weights_digest

__all__ = [
    "Classifier",
    "Ensemble",
    "Preprocessing",
    "as_teacher",
    "load_classifier",
    "load_judge",
    "load_source",
    "load_teacher",
    "needs_the_web",
    "save_classifier",
    "smooth_backward",
    "weights_digest",
]
