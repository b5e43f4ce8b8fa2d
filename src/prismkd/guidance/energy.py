"""Every energy that can guide, each one low where an image is in-distribution.

Pure functions of a classifier's logits f (batch, classes), or of its penultimate features (batch, width). Most give one
value per image, (batch,); the repulsion is a statement about a whole batch and gives a scalar. ``guidance.energy``
chooses one of the first kind, and ``teacher_energy.py`` adds the repulsion to it with its weight.

The paper says that a pre-trained classifier gives each sample an energy, not which: where no other source is named,
the energy is our design.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 0.1  # keeps the determinant away from zero, and so bounds the repulsion of two equal images


# --- of the logits, per image ------------------------------------------------------------------------------------


def free_energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``E_free(x) = -T logsumexp(f(x) / T)``: low where the classifier has seen data (Liu et al. 2020, eq. 4).

    It knows no classes, and no lower bound: cross-entropy leaves the logits a free offset, so the free energies of two
    teachers can't be compared, and whoever only descends it overshoots (``hinge_energy``).
    """
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


def joint_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-f_y``: minus the log of the unnormalized joint density of x and y (Grathwohl et al. 2020)."""
    return -logits.gather(1, labels[:, None]).squeeze(1)


def conditional_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log p(y | x) = logsumexp(f) - f_y``: the cross-entropy of each image with its own label, in nats."""
    return torch.logsumexp(logits, dim=1) + joint_energy(logits, labels)


def elucd_energy(logits: Tensor, labels: Tensor, weight: float = 0.5) -> Tensor:
    """``-(f_y - logsumexp(weight f))``: between joint (weight 0) and conditional (1) (EluCD: Ma et al. 2024)."""
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
    """The default: ``E(x, y) = w_margin relu(E_free(x) - E_target[y]) + w_label (logsumexp(f) - f_y)``.

    Args:
        logits: (batch, classes).
        labels: (batch,), the class y that each image was drawn for.
        target: (classes,), the free energy of usual unguided images of each class (``targets.py``).
        margin_weight: w_margin.
        label_weight: w_label.
        temperature: of the free energy.
    """
    # The free energy has no lower bound. Descending it alone sent samples of toy teachers far outside of the data and
    # lost their label; on Pictograms its energies fall below everything else and the shifted domains suffer
    # (docs/eda.md). The hinge stops where the image is as in-distribution as ``target`` asks, and the label term keeps
    # the class, on which the free energy has no opinion.
    excess = free_energy(logits, temperature) - target[labels]
    return margin_weight * torch.relu(excess) + label_weight * conditional_energy(logits, labels)


# --- of the penultimate features ---------------------------------------------------------------------------------


def repulsion_energy(features: Tensor, labels: Tensor) -> Tensor:
    """The diversity term: ``-sum over classes c of logdet(K_c + ridge I)``, a scalar.

    K_c holds the cosines between the features of the class's images, after the mean of the batch was subtracted. It is
    lowest where they are orthogonal to each other, where the Vendi score of the same kernel is highest. A class with
    one image in the batch adds nothing.
    """
    # The counterweight to the other energies: guidance buys precision with recall (EluCD on ImageNet at 128 pixels:
    # precision .70 to .79, recall .65 to .58), and this term and diverse prompts are to pay it back.
    directions = F.normalize(features - features.mean(dim=0), dim=1)
    total = features.new_zeros(())
    for label in labels.unique():
        of_class = directions[labels == label]
        if len(of_class) > 1:
            kernel = of_class @ of_class.T + RIDGE * torch.eye(len(of_class), device=of_class.device)
            total = total - torch.logdet(kernel.float())  # there is no logdet in half precision
    return total
