"""Views: in range, differentiable, and the same for a batch when shared."""

import torch

from prismkd.augmentation import random_views

STILL = {"min_scale": 1.0, "max_scale": 1.0, "max_shift": 0.0, "max_rotation": 0.0, "contrast": 0.0, "noise": 0.0}


def test_without_amplitude_a_view_is_the_image_or_its_mirror() -> None:
    images = torch.rand(20, 1, 8, 8)
    views = random_views(images, **STILL)
    for image, view in zip(images, views, strict=True):
        assert torch.allclose(view, image, atol=1e-4) or torch.allclose(view, image.flip(-1), atol=1e-4)


def test_views_stay_in_range_and_carry_gradients() -> None:
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    views = random_views(images)
    views.sum().backward()
    assert views.min() >= 0
    assert views.max() <= 1
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_shared_view_does_not_depend_on_the_batch() -> None:
    images = torch.rand(5, 1, 16, 16)
    whole = random_views(images, shared=True, generator=torch.Generator().manual_seed(1))
    alone = random_views(images[3:4], shared=True, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(whole[3:4], alone, atol=1e-6)
