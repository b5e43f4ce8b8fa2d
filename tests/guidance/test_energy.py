"""Energies in closed form."""

import math

import torch

from prismkd.guidance.energy import (
    conditional_energy,
    elucd_energy,
    free_energy,
    hinge_energy,
    joint_energy,
)


def test_free_energy_of_equal_logits_is_minus_log_of_their_number() -> None:
    assert torch.allclose(free_energy(torch.zeros(2, 10)), torch.full((2,), -math.log(10)))


def test_free_energy_shifts_with_the_logits() -> None:
    logits = torch.randn(4, 7)
    assert torch.allclose(free_energy(logits + 3.0), free_energy(logits) - 3.0, atol=1e-5)


def test_low_temperature_free_energy_is_minus_the_largest_logit() -> None:
    logits = torch.randn(4, 7)
    assert torch.allclose(free_energy(logits, 1e-3), -logits.amax(1), atol=1e-2)


def test_conditional_energy_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(conditional_energy(logits, labels), expected, atol=1e-6)


def test_hinge_has_no_margin_gradient_below_the_target() -> None:
    logits = torch.tensor([[10.0, 0.0]], requires_grad=True)
    hinge_energy(logits, torch.tensor([0]), torch.tensor([-5.0, -5.0]), label_weight=0.0).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_hinge_above_the_target_descends_like_the_free_energy() -> None:
    logits = torch.tensor([[1.0, 0.0]])
    energy = hinge_energy(logits, torch.tensor([0]), torch.tensor([-5.0, -5.0]), label_weight=0.0)
    assert torch.allclose(energy, free_energy(logits) + 5.0)


def test_marginal_joint_and_conditional_energy_obey_the_product_rule() -> None:
    """-log p(x, y) = -log p(x) - log p(y | x), up to the same constant."""
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    total = free_energy(logits) + conditional_energy(logits, labels)
    assert torch.allclose(joint_energy(logits, labels), total, atol=1e-5)


def test_elucd_lies_between_conditional_and_joint() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    assert torch.allclose(elucd_energy(logits, labels, 1.0), conditional_energy(logits, labels), atol=1e-5)
    assert torch.allclose(elucd_energy(logits, labels, 0.0), joint_energy(logits, labels) + math.log(4), atol=1e-5)
