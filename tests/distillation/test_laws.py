"""Laws of the distillation losses, for any logits and features."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from prismkd.distillation.losses import distillation_loss, feature_loss, mixed_logits

SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 7))  # images, classes
TEMPERATURES = st.floats(0.5, 20)
SEEDS = st.integers(0, 2**31)


def normal(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss_and_gradient(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The distillation loss, and its gradient by the student's logits."""
    student = student.clone().requires_grad_()
    loss = distillation_loss(student, teacher, temperature)
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.detach(), gradient


@given(SHAPES, TEMPERATURES, SEEDS)
def test_no_gradient_pushes_all_classes_of_an_image_up(shape: tuple[int, int], temperature: float, seed: int) -> None:
    _, gradient = loss_and_gradient(normal(seed, *shape), normal(seed + 1, *shape), temperature)
    assert torch.allclose(gradient.sum(1), torch.zeros(shape[0], dtype=torch.float64), atol=1e-12)
    assert gradient.abs().max() > 1e-9


@given(SHAPES, TEMPERATURES, SEEDS)
def test_a_constant_added_to_an_images_logits_says_nothing(
    shape: tuple[int, int], temperature: float, seed: int
) -> None:
    student, teacher, shift = normal(seed, *shape), normal(seed + 1, *shape), normal(seed + 2, shape[0], 1, scale=50)
    loss, gradient = loss_and_gradient(student, teacher, temperature)
    for other in ((student + shift, teacher), (student, teacher + shift)):
        shifted_loss, shifted_gradient = loss_and_gradient(*other, temperature)
        assert torch.allclose(shifted_loss, loss, atol=1e-9)
        assert torch.allclose(shifted_gradient, gradient, atol=1e-10)


@given(SHAPES, TEMPERATURES, SEEDS)
def test_the_teacher_is_the_only_minimum(shape: tuple[int, int], temperature: float, seed: int) -> None:
    student, teacher = normal(seed, *shape), normal(seed + 1, *shape)
    assert distillation_loss(student, teacher, temperature) > 0
    loss, gradient = loss_and_gradient(teacher, teacher, temperature)
    assert loss.abs() < 1e-12 and gradient.abs().max() < 1e-12


@given(SHAPES, TEMPERATURES, SEEDS)
def test_the_gradient_is_the_difference_of_the_softened_distributions(
    shape: tuple[int, int], temperature: float, seed: int
) -> None:
    """Hinton et al. 2015, eq. 2: dL/dz_s = (p_s - p_t) / T, here times T^2 and the mean over images."""
    student, teacher = normal(seed, *shape), normal(seed + 1, *shape)
    _, gradient = loss_and_gradient(student, teacher, temperature)
    difference = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
    assert torch.allclose(gradient, temperature * difference / shape[0], atol=1e-10)


@given(SHAPES, TEMPERATURES, SEEDS)
def test_the_loss_of_a_batch_is_the_mean_of_its_images(shape: tuple[int, int], temperature: float, seed: int) -> None:
    student, teacher = normal(seed, *shape), normal(seed + 1, *shape)
    alone = [distillation_loss(student[[i]], teacher[[i]], temperature) for i in range(shape[0])]
    assert torch.allclose(distillation_loss(student, teacher, temperature), torch.stack(alone).mean())
    alone = [feature_loss(student[[i]], teacher[[i]]) for i in range(shape[0])]
    assert torch.allclose(feature_loss(student, teacher), torch.stack(alone).mean())


@given(SHAPES, SEEDS)
def test_the_feature_loss_does_not_know_the_axes(shape: tuple[int, int], seed: int) -> None:
    student, teacher = normal(seed, *shape), normal(seed + 1, *shape)
    rotation = torch.linalg.qr(normal(seed + 2, shape[1], shape[1]))[0]
    assert torch.allclose(feature_loss(student @ rotation, teacher @ rotation), feature_loss(student, teacher))


@given(SHAPES, TEMPERATURES, SEEDS)
def test_mixing_an_image_with_nothing_keeps_it_and_a_permutation_permutes(
    shape: tuple[int, int], temperature: float, seed: int
) -> None:
    logits = normal(seed, *shape)
    order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(seed))
    mixing = torch.eye(shape[0], dtype=torch.float64)[order]
    found = (mixed_logits(logits, mixing, temperature) / temperature).softmax(1)
    assert torch.allclose(found, (logits / temperature).softmax(1)[order])
