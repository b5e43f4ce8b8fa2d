"""Distillation losses: pure functions of what student and teacher say."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher / T || student / T)``, mean over the batch (Hinton et al. 2015).

    The factor keeps the gradient's size when T grows; for T to infinity it tends to that of
    ``|z_s - z_t|^2 / (2 C)`` with both logits centered.
    """
    # Its gradient by the student's logits is T (softmax(z_s / T) - softmax(z_t / T)) per image: without the factor T^2
    # it would fall with 1 / T^2, and each temperature would need a learning rate of its own. For large T softmax(z / T)
    # is about (1 + z / T) / C for centered logits, hence the limit.
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    # log_softmax is exact where a softmax would underflow to 0. "batchmean", as "mean" divides by the number of classes
    # too.
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def agreement_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, label_weight: float, temperature: float
) -> Tensor:
    """``mean_i (1 - a_i) T^2 KL_i + a_i CE_i`` with ``a_i = 1 - (1 - a) p_i``: the teacher is trusted as far as it
    agrees with the label, ``p_i`` being the probability that it gives to it (our design).

    The feature loss stands beside it unweighted.

    A teacher says little about images outside of its own domain, and the prompt knows what they show. Nobody has to say
    which these are.

    Args:
        student_logits, teacher_logits: (batch, classes).
        targets: (batch, classes) shares of the classes that were asked for.
        label_weight: a, the labels' weight where the teacher is sure of them.
        temperature: T.
    """
    # Of a mixed view the overlap of both distributions, which is 1 where the teacher says exactly the mixture
    agreement = torch.minimum(F.softmax(teacher_logits, dim=1), targets).sum(1)
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    kl = temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    trust = (1 - label_weight) * agreement
    return (trust * kl + (1 - trust) * F.cross_entropy(student_logits, targets, reduction="none")).mean()


def feature_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Squared error over the teacher's square, mean over images (Romero et al. 2015): 1 for a student that says zero.

    Each image is measured by itself, so that processes with parts of a batch add up to one with the whole.

    Args:
        student_features: (batch, teacher's width), mapped linearly from the student's own width.
        teacher_features: (batch, teacher's width).
    """
    # Relative to the teacher's own power, so that one weight suits teachers whose features differ in scale. The floor
    # is for an image of which the teacher's features are all zero.
    power = teacher_features.square().mean(1).clamp_min(torch.finfo(teacher_features.dtype).tiny)
    return ((student_features - teacher_features).square().mean(1) / power).mean()


def mixed_logits(logits: Tensor, mixing: Tensor, temperature: float) -> Tensor:
    """Logits whose softened distribution is the mixture of those of ``logits``.

    Args:
        logits: (batch, classes).
        mixing: (batch, batch), each row a mixture.
        temperature: at which the distributions are mixed.
    """
    # softmax(T log(p) / T) = p, so T log(p) are logits of the mixture p, which the loss can take as any others.
    mixture = mixing @ F.softmax(logits / temperature, dim=1)
    return temperature * mixture.clamp_min(torch.finfo(mixture.dtype).tiny).log()
