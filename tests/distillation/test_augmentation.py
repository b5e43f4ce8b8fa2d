"""Views: in range, differentiable, and functions of their seeds."""

import numpy as np
import torch
from torch.nn.functional import avg_pool2d
from torchvision.transforms import RandomResizedCrop

from prismkd.classifiers.views import random_resized_crops, random_views
from prismkd.distillation.augmentation import mix, rand_augment

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


def test_a_view_of_a_larger_image_is_the_larger_view() -> None:
    """Zoom, shift and rotation are relative to the image, so that a seed's view shows the same at any size."""
    place = torch.linspace(-3, 3, 65)[:-1] + 3 / 64
    large = torch.stack([place.sin()[None] * (place + k).cos()[:, None] for k in range(3)])[None] / 2 + 0.5
    small = avg_pool2d(large, 2)
    of_large, of_small = (
        random_views(images, noise=0, generator=torch.Generator().manual_seed(2)) for images in (large, small)
    )
    assert (avg_pool2d(of_large, 2) - of_small).abs().mean() < 0.005
    assert (of_small - small).abs().mean() > 0.05


def test_a_shared_view_does_not_depend_on_the_batch() -> None:
    images = torch.rand(5, 1, 16, 16)
    whole = random_views(images, shared=True, generator=torch.Generator().manual_seed(1))
    alone = random_views(images[3:4], shared=True, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(whole[3:4], alone, atol=1e-6)


def test_a_part_of_a_batch_gets_the_views_of_the_whole() -> None:
    images, rows = torch.rand(8, 1, 16, 16), torch.tensor([6, 1, 3])
    whole = random_views(images, generator=torch.Generator().manual_seed(1))
    part = random_views(images[rows], generator=torch.Generator().manual_seed(1), rows=rows, batch_size=8)
    assert torch.allclose(whole[rows], part, atol=1e-6)


def coordinates(count: int, side: int) -> torch.Tensor:
    """Images (count, 2, side, side) of two channels, which say where in the image a pixel is: its x and y in [0, 1]."""
    x = ((torch.arange(side) + 0.5) / side).expand(side, side)
    return torch.stack([x, x.T]).expand(count, 2, side, side).contiguous()


def parts(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Width and height (batch,) of the part of ``coordinates`` that each view shows, as shares of the image's."""
    side = views.shape[-1]
    reach = side / (side - 1)  # the outermost pixels' centers lie within the part
    width = (views[:, 0, :, -1] - views[:, 0, :, 0]).mean(1).abs() * reach
    return width, (views[:, 1, -1] - views[:, 1, 0]).mean(1) * reach


def test_random_resized_crops_are_distributed_as_torchvisions() -> None:
    """Quartiles of area, aspect ratio and place over many crops."""
    count, side = 4000, 256
    torch.manual_seed(0)
    boxes = [RandomResizedCrop.get_params(torch.empty(3, side, side), [0.08, 1.0], [3 / 4, 4 / 3])
             for _ in range(count)]  # fmt: skip
    top, left, tall, wide = torch.tensor(boxes).T / side
    views = random_resized_crops(coordinates(count, 32), (8, 8), 0.08, generator=torch.Generator().manual_seed(0))
    width, height = parts(views)
    quartiles = torch.tensor([0.25, 0.5, 0.75])
    for ours, theirs in (
        (width * height, wide * tall),
        ((width / height).log(), (wide / tall).log()),
        (views[:, 0].mean((1, 2)), left + wide / 2),
        (views[:, 1].mean((1, 2)), top + tall / 2),
    ):
        assert (ours.quantile(quartiles) - theirs.quantile(quartiles)).abs().max() < 0.03
    flipped = views[:, 0, 0, 0] > views[:, 0, 0, -1]
    assert abs(flipped.float().mean() - 0.5) < 0.03


def test_a_random_resized_crop_is_a_part_of_the_image_in_its_own_proportions() -> None:
    images = coordinates(500, 32)[..., :16, :]  # twice as wide as high
    views = random_resized_crops(images, (8, 8), 0.2, generator=torch.Generator().manual_seed(1))
    assert views.shape == (500, 2, 8, 8)
    assert views.min() >= images.min() and views.max() <= images.max()
    whole = random_resized_crops(images, (16, 32), 1.0, generator=torch.Generator().manual_seed(1))
    for image, view in zip(images, whole, strict=True):  # no ratio allows all of it, so after ten tries it is all
        assert torch.allclose(view, image, atol=1e-5) or torch.allclose(view, image.flip(-1), atol=1e-5)


def test_a_part_of_a_batch_gets_the_crops_of_the_whole() -> None:
    images, rows = torch.rand(8, 3, 16, 16), torch.tensor([6, 1, 3])
    whole = random_resized_crops(images, (8, 8), 0.08, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    part = random_resized_crops(images[rows], (8, 8), 0.08, generator=generator, rows=rows, batch_size=8)
    assert torch.allclose(whole[rows], part, atol=1e-6)


def test_rand_augment_is_drawn_from_the_image_s_own_seed() -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    views = rand_augment(images, 9, [10, 11, 12, 13, 14, 15])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(rand_augment(images[2:4], 9, [12, 13]), views[2:4])
    assert not torch.equal(rand_augment(images, 9, [20, 21, 22, 23, 24, 25]), views)


def test_mixup_shares_images_with_the_mirrored_batch() -> None:
    views = torch.rand(6, 1, 8, 8)
    mixed, mixing = mix(views.clone(), 1.0, 0.0, seed=3)
    assert torch.allclose(mixed, torch.einsum("ij,jchw->ichw", mixing, views), atol=1e-6)
    share = mixing[0, 0]
    assert 0 < share < 1
    assert torch.allclose(mixing, share * torch.eye(6) + (1 - share) * torch.eye(6).flip(0))


def test_cutmix_shares_are_areas_and_depend_on_the_seed_alone() -> None:
    views = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 16, 16).clone()
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    mixed, mixing = mix(views.clone(), 0.0, 1.0, seed=7)
    assert (np.random.get_state()[1] == before).all()
    assert torch.allclose((mixed == views).float().mean((1, 2, 3)), mixing.diagonal())
    assert 0 < mixing[0, 0] < 1
    np.random.seed(2)
    assert torch.equal(mix(views.clone(), 0.0, 1.0, seed=7)[0], mixed)
