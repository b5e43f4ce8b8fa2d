"""Distillation losses: pure functions of (student_logits, teacher_logits)."""

from __future__ import annotations

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
