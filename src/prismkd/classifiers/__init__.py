"""Teachers: any classifier as a differentiable function of images in [0, 1]."""

from prismkd.classifiers.classifier import Classifier, as_teacher
from prismkd.classifiers.ensemble import Ensemble
from prismkd.classifiers.folders import load_classifier, save_classifier
from prismkd.classifiers.modules import as_classifier
from prismkd.classifiers.preprocessing import Preprocessing
from prismkd.classifiers.smooth import smooth_backward
from prismkd.classifiers.sources import load_judge, load_source, load_teacher, needs_the_web, weights_digest

__all__ = [
    "Classifier",
    "Ensemble",
    "Preprocessing",
    "as_classifier",
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
