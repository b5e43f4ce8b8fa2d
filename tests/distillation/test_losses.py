"""The distillation losses and their limits."""

import pytest
import torch
from torch.nn import functional as F

from prismkd.distillation.losses import agreement_loss, distillation_loss, feature_loss, mixed_logits


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


def test_the_feature_loss_has_no_unit() -> None:
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    assert torch.allclose(feature_loss(100 * student, 100 * teacher), feature_loss(student, teacher))
    assert torch.allclose(feature_loss(torch.zeros(6, 4), teacher), torch.tensor(1.0))
    assert feature_loss(teacher, teacher) == 0


def test_mixed_logits_are_those_of_the_mixed_distributions() -> None:
    logits, mixing = torch.randn(3, 5), torch.tensor([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    soft = (logits / 4).softmax(1)
    assert torch.allclose((mixed_logits(logits, mixing, 4.0) / 4).softmax(1), mixing @ soft, atol=1e-6)


def test_a_teacher_that_is_sure_of_the_label_is_trusted_and_one_that_is_not_is_not() -> None:
    student, labels = torch.randn(3, 5, dtype=torch.float64), torch.tensor([0, 3, 4])
    targets = F.one_hot(labels, 5).double()
    sure = 60 * targets  # its probability of the label is 1
    assert agreement_loss(student, sure, targets, 0.0, 4.0) == pytest.approx(distillation_loss(student, sure, 4.0))
    by_label = F.cross_entropy(student, labels)
    assert agreement_loss(student, -sure, targets, 0.0, 4.0) == pytest.approx(by_label)
    mixed = 0.3 * by_label + 0.7 * distillation_loss(student, sure, 4.0)
    assert agreement_loss(student, sure, targets, 0.3, 4.0) == pytest.approx(mixed)


def test_trust_is_each_views_own() -> None:
    student, teacher = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    targets = F.one_hot(torch.arange(6) % 5, 5).double()
    alone = [agreement_loss(student[i : i + 1], teacher[i : i + 1], targets[i : i + 1], 0.2, 4.0) for i in range(6)]
    assert agreement_loss(student, teacher, targets, 0.2, 4.0) == pytest.approx(torch.stack(alone).mean())
