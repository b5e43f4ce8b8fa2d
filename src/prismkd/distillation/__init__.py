"""Training a student: the loop, its data, its recipes and what it says of itself."""

from prismkd.distillation.log import TrainingLog
from prismkd.distillation.loop import CHECKPOINT_EVERY, train
from prismkd.distillation.student import new_student
from prismkd.distillation.tar_images import open_images
from prismkd.distillation.trained_student import TrainedStudent, distill
from prismkd.distillation.training_set import TrainingSet, to_bytes

__all__ = [
    "CHECKPOINT_EVERY",
    "TrainedStudent",
    "TrainingLog",
    "TrainingSet",
    "distill",
    "new_student",
    "open_images",
    "to_bytes",
    "train",
]
