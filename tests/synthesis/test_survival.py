"""The survival test on pictures whose fate is known."""

import pytest
import torch

from prismkd.synthesis.survival import SurvivalRow, gains, jpeg, resize


def checkerboard(channels: int, size: int) -> torch.Tensor:
    index = torch.arange(size)
    return ((index[:, None] + index[None, :]) % 2).float().expand(1, channels, size, size)


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64)])
@pytest.mark.parametrize("treat", [resize, lambda images: jpeg(images, 10)])
def test_a_pixel_pattern_is_washed_off_and_a_shape_stays(treat, channels: int, size: int) -> None:
    pattern = 0.5 + 0.08 * (checkerboard(channels, size) - 0.5)
    shape = torch.zeros(1, channels, size, size)
    shape[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1.0
    assert treat(pattern).std() < 0.5 * pattern.std()
    assert (treat(shape) - shape).abs().mean() < 0.05


def test_treatments_keep_shape_and_range_in_grey_and_color() -> None:
    for channels in (1, 3):
        images = torch.rand(2, channels, 20, 20)
        for treat in (resize, jpeg):
            out = treat(images)
            assert out.shape == images.shape
            assert out.min() >= 0 and out.max() <= 1


def test_gains_are_against_unguided_images_of_the_same_treatment() -> None:
    rows = [
        SurvivalRow("unguided", "none", "teacher", -4.0, 2.0, 0.5),
        SurvivalRow("unguided", "jpeg", "teacher", -3.0, 2.5, 0.4),
        SurvivalRow("guided", "none", "teacher", -8.0, 1.0, 0.9),
        SurvivalRow("guided", "jpeg", "teacher", -4.0, 2.0, 0.5),
    ]
    none, compressed = gains(rows)
    assert none["gain"] == 4.0 and none["survives"] == 1.0
    assert compressed["gain"] == 1.0 and compressed["survives"] == 0.25
    assert compressed["label_gain"] == 0.5
