"""Metrics: pure functions of numpy arrays, or of torch tensors on any device.

Each is written here, in a few lines with its formula, and tested against the library that has it where that library is
right (prdc, torch-fidelity). Of those that were tried, piq's recall and vendi-score's ``score_X`` with q were not.
"""

from prismkd.metrics.accuracy import agreement, correct, correct_in_top, per_class, top1, vanished
from prismkd.metrics.bootstrap import bootstrap_interval
from prismkd.metrics.ece import expected_calibration_error
from prismkd.metrics.frechet import frechet_distance
from prismkd.metrics.kid import kernel_distance
from prismkd.metrics.paired import holm, paired_interval, sign_test
from prismkd.metrics.prdc import Neighborhoods, Prdc, Symmetric, class_averaged, neighborhoods, prdc, symmetric
from prismkd.metrics.vendi import vendi_score
from prismkd.metrics.wilson import wilson_interval

__all__ = [
    "Neighborhoods",
    "Prdc",
    "Symmetric",
    "agreement",
    "bootstrap_interval",
    "class_averaged",
    "correct",
    "correct_in_top",
    "expected_calibration_error",
    "frechet_distance",
    "holm",
    "kernel_distance",
    "neighborhoods",
    "paired_interval",
    "per_class",
    "prdc",
    "sign_test",
    "symmetric",
    "top1",
    "vanished",
    "vendi_score",
    "wilson_interval",
]
