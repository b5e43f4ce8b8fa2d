"""Teachers: any classifier as a differentiable function of images in [0, 1]."""

from prismkd.teachers.classifier import (
    Classifier,
    load_classifier,
    load_judge,
    load_teacher,
    save_classifier,
    teacher_folder,
)
from prismkd.teachers.smooth import smooth_backward

__all__ = [
    "Classifier",
    "load_classifier",
    "load_judge",
    "load_teacher",
    "save_classifier",
    "smooth_backward",
    "teacher_folder",
]
