"""Vendi score: the effective number of distinct samples in a set."""

from __future__ import annotations

import numpy as np

from prismkd.errors import UserError
from prismkd.metrics.arrays import Array, to_numpy


def vendi_score(features: Array, q: float = 1.0) -> float:
    """Vendi score with the cosine kernel, from 1 (all samples alike) to n (all orthogonal).

    It is the exponential of the Renyi entropy of order q of the eigenvalues of K / n, K_ij = cos(x_i, x_j). Order 1 is
    Shannon's entropy (Friedman & Dieng 2023); the other orders are from Pasarkar & Dieng 2024. A small q counts rare
    kinds of samples, a large one only the common kinds; q = inf is 1 / (largest eigenvalue). The score grows with n:
    compare it only between sets of one size.

    Args:
        features: (n, num_features); rows are normalized here.
        q: order, > 0.

    Raises:
        UserError: no sample, a row that is zero or not finite, or q <= 0.
    """
    features = to_numpy(features)
    if features.ndim != 2 or features.size == 0:
        raise UserError(f"expected features (n, num_features), n >= 1, got {features.shape}; pass one row per image")
    if not q > 0:
        raise UserError(f"expected an order q > 0, got {q}; pass 1 for the usual Vendi score")
    features = features.astype(np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise UserError("expected finite features with no zero row, got one; check the network that computed them")

    normalized = features / norms
    n, num_features = normalized.shape
    # X X^T and X^T X share their nonzero eigenvalues: take the smaller matrix
    kernel = normalized @ normalized.T if n <= num_features else normalized.T @ normalized
    eigenvalues = np.linalg.eigvalsh(kernel / n)
    eigenvalues = eigenvalues[eigenvalues > 1e-12]  # the rest is rounding; they sum to 1
    if q == 1:  # VS_1 = exp(-sum_i lambda_i log lambda_i), the limit of the formula below, which is 0/0 there
        return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
    if q == np.inf:  # VS_inf = 1 / max_i lambda_i, again the limit
        return float(1 / eigenvalues.max())
    # VS_q = exp(1 / (1 - q) log sum_i lambda_i^q)
    return float((eigenvalues**q).sum() ** (1 / (1 - q)))
