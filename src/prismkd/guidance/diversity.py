"""The diversity term: images of one class that are drawn together repel each other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 0.1  # keeps the determinant away from zero, and bounds the repulsion of two equal images


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
