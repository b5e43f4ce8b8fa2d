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
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def feature_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Squared error over the teacher's square, mean over images (Romero et al. 2015): 1 for a student that says zero.

    Each image is measured by itself, so that processes with parts of a batch add up to one with the whole.

    Args:
        student_features: (batch, teacher's width), mapped linearly from the student's own width.
        teacher_features: (batch, teacher's width).
    """
    power = teacher_features.square().mean(1).clamp_min(torch.finfo(teacher_features.dtype).tiny)
    return ((student_features - teacher_features).square().mean(1) / power).mean()


def mixed_logits(logits: Tensor, mixing: Tensor, temperature: float) -> Tensor:
    """Logits whose softened distribution is the mixture of those of ``logits``.

    Args:
        logits: (batch, classes).
        mixing: (batch, batch), each row a mixture.
        temperature: at which the distributions are mixed.
    """
    mixture = mixing @ F.softmax(logits / temperature, dim=1)
    return temperature * mixture.clamp_min(torch.finfo(mixture.dtype).tiny).log()
