"""The distillation loss and its limits."""

import torch

from prismkd.losses import distillation_loss


def test_zero_for_equal_distributions() -> None:
    logits = torch.randn(4, 6)
    assert distillation_loss(logits + 2.0, logits, 4.0).abs() < 1e-5


def test_gradient_tends_to_the_logit_difference_for_high_temperature() -> None:
    """Hinton et al. 2015: for T to infinity the gradient is (z_s - z_t) / C with centered logits."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 5), torch.randn(1, 5)
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_(True)
    distillation_loss(student, teacher, 1000.0).backward()
    assert student.grad is not None
    assert torch.allclose(student.grad, (student.detach() - teacher) / 5, atol=1e-3)
