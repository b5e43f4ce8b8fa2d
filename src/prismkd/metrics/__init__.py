"""Metrics: pure functions of numpy arrays."""

from prismkd.metrics.accuracy import agreement, correct, top1
from prismkd.metrics.bootstrap import bootstrap_interval
from prismkd.metrics.calibration import expected_calibration_error
from prismkd.metrics.prdc import Prdc, prdc
from prismkd.metrics.vendi import vendi_score

__all__ = [
    "Prdc",
    "agreement",
    "bootstrap_interval",
    "correct",
    "expected_calibration_error",
    "prdc",
    "top1",
    "vendi_score",
]
