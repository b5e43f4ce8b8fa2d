"""The losses on cases whose value and gradient are known."""

from __future__ import annotations

import torch
from torch import Tensor

from prismkd.adaptation.objectives import energy_losses, guided_losses, relative_distance


class Brightness:
    """The sum of all pixels: an energy."""

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        return images.sum()


def test_the_distance_has_no_unit_and_a_finite_gradient_at_zero() -> None:
    base = torch.randn(3, 2, 4, 4)
    x0 = (1.5 * base).requires_grad_(True)
    assert torch.allclose(relative_distance(x0, base, base), torch.full((3,), 0.25))
    assert torch.allclose(relative_distance(1000 * x0, 1000 * base, 1000 * base), torch.full((3,), 0.25))
    still = base.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(relative_distance(still, base, base).sum(), still)
    assert torch.equal(gradient, torch.zeros_like(base))


def test_regression_is_done_where_the_prediction_is_the_guided_one() -> None:
    base, delta = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(guided_losses(base + delta, base, delta), torch.zeros(2))
    assert torch.equal(guided_losses(base, base, None), torch.zeros(2))
    x0 = base.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(guided_losses(x0, base, delta).sum(), x0)
    # d/dx0 mean |x0 - base - delta|^2 / mean |base|^2 = -2 delta / sum |base|^2 at x0 = base
    assert torch.allclose(gradient, -2 * delta / base.square().sum(1, keepdim=True), atol=1e-5)


def test_the_energy_is_that_of_guided_images_alone_and_the_others_are_held() -> None:
    x0, guided = torch.full((3, 1, 8, 8), 0.5), torch.tensor([True, False, True])
    arguments = (torch.zeros(3, dtype=torch.long), guided, Brightness(), lambda latents: latents)
    losses = energy_losses(x0, x0, *arguments, proximity_weight=2.0, seed=0)  # type: ignore[arg-type]
    assert losses[1] == 0 and losses[0] == losses[2] > 0
    moved = energy_losses(1.5 * x0, x0, *arguments, proximity_weight=2.0, seed=0)  # type: ignore[arg-type]
    assert torch.isclose(moved[1], torch.tensor(2 * 0.25))
    nobody = (arguments[0], torch.zeros(3, dtype=torch.bool), *arguments[2:])
    assert torch.equal(energy_losses(x0, x0, *nobody, proximity_weight=2.0, seed=0), torch.zeros(3))  # type: ignore[arg-type]
