"""Expected calibration error: how far the confidence of a classifier is from its accuracy."""

from __future__ import annotations

import numpy as np

from prismkd.metrics.accuracy import correct
from prismkd.metrics.arrays import Array, to_numpy


def expected_calibration_error(logits: Array, labels: Array, num_bins: int = 15) -> float:
    """Expected calibration error in [0, 1], of the largest softmax probability (Guo et al. 2017, eq. 3).

    The ``num_bins`` bins ((m - 1) / num_bins, m / num_bins] have equal width. The estimate is biased upwards where
    bins hold few samples, so compare it only between equal n.

    Args:
        logits: (n, num_classes), finite, before the softmax.
        labels: integers (n,).
        num_bins: 15 as in Guo et al.

    Raises:
        UserError: as ``correct``.
    """
    logits, labels = to_numpy(logits), to_numpy(labels)
    hits = correct(logits, labels)
    # Without the shift by the maximum the exponential overflows for logits above 709
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)  # softmax of the largest logit

    # ECE = sum_m |B_m| / n |acc(B_m) - conf(B_m)|, with the 1 / |B_m| of both means canceled. Bins are closed above,
    # so that a confidence of exactly 1 has one.
    bins = np.ceil(confidence * num_bins).astype(int) - 1
    gaps = np.bincount(bins, weights=hits - confidence, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(hits))
