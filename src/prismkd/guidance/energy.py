"""Energies of images under a classifier f, low where an image is in-distribution: (batch,) values.

Pure functions of logits (batch, classes), of penultimate features (batch, width) or of batch statistics. Which one
guides is ``guidance.energy``; METHOD's default is the hinge. The sign is everywhere "lower is more in-distribution".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 0.1  # keeps the determinant away from zero, and bounds the repulsion of two equal images


def free_energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``E(x) = -T logsumexp(f(x) / T)``: low where the classifier has seen data (Liu et al. 2020, eq. 4)."""
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


def joint_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-f_y``: minus the log of the unnormalized joint density of x and y (Grathwohl et al. 2020)."""
    return -logits.gather(1, labels[:, None]).squeeze(1)


def conditional_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log p(y | x) = logsumexp(f) - f_y``, the cross-entropy of each image with its own label."""
    return torch.logsumexp(logits, dim=1) + joint_energy(logits, labels)


def elucd_energy(logits: Tensor, labels: Tensor, weight: float = 0.5) -> Tensor:
    """``-(f_y - logsumexp(weight f))``: between joint and conditional (EluCD: Ma et al. 2024)."""
    return torch.logsumexp(weight * logits, dim=1) + joint_energy(logits, labels)


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
    return margin_weight * torch.relu(excess) + label_weight * conditional_energy(logits, labels)


def prototype_energy(features: Tensor, prototypes: Tensor, labels: Tensor) -> Tensor:
    """``1 - cos(h(x), w_y - mean w)``: the angle to the last layer's own centered weight row (classes, width).

    The term for teachers without batch normalization: it needs nothing but the head. Our design.
    """
    centered = prototypes - prototypes.mean(dim=0)
    return 1 - F.cosine_similarity(features, centered[labels], dim=1)


def batch_norm_energy(mean: Tensor, variance: Tensor, running_mean: Tensor, running_variance: Tensor) -> Tensor:
    """``||mu - mu_run||_2 + ||var - var_run||_2`` of one layer, all (channels,) (DeepInversion: Yin et al. 2020).

    A statement about a batch, so a scalar: give the statistics of many classes mixed.
    """
    return (mean - running_mean).norm() + (variance - running_variance).norm()


def react(features: Tensor, threshold: float) -> Tensor:
    """Penultimate features clipped from above, which takes the overconfidence of outliers (ReAct: Sun et al. 2021)."""
    return features.clamp(max=threshold)


def repulsion_energy(features: Tensor, labels: Tensor) -> Tensor:
    """Minus the log-determinant of each class's kernel ``K + ridge I`` of cosines, summed over classes: a scalar.

    The features (batch, width) are centered over the batch first. Lowest where the images of a class are orthogonal,
    as the Vendi score of the same kernel is highest there. Our design, not the paper's.
    """
    directions = F.normalize(features - features.mean(dim=0), dim=1)
    total = features.new_zeros(())
    for label in labels.unique():
        own = directions[labels == label]
        if len(own) > 1:
            kernel = own @ own.T + RIDGE * torch.eye(len(own), device=own.device)
            total = total - torch.logdet(kernel.float())
    return total
