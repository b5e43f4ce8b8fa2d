"""Energies of images under a classifier: pure functions of its logits (batch, classes) -> (batch,)."""

from __future__ import annotations

import torch
from torch import Tensor


def free_energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``E(x) = -T logsumexp(f(x) / T)``: low where the classifier has seen data (Liu et al. 2020, eq. 4)."""
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


def label_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log p(y | x)``, the cross-entropy of each image with its own label."""
    return torch.logsumexp(logits, dim=1) - logits.gather(1, labels[:, None]).squeeze(1)


def hinge_energy(
    logits: Tensor,
    labels: Tensor,
    target: Tensor,
    *,
    margin_weight: float = 1.0,
    label_weight: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """The default energy: ``w_margin relu(E_free(x) - E_target[y]) + w_label (-log p(y | x))``.

    Descending the free energy alone overshoots, since it has no lower bound; the hinge stops where the
    image is as in-distribution as ``target`` (classes,) asks. Our design, not the paper's.
    """
    excess = free_energy(logits, temperature) - target[labels]
    return margin_weight * torch.relu(excess) + label_weight * label_energy(logits, labels)
