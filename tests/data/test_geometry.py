"""Pictures are resized and cut to the very pixels of the libraries' own transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import InterpolationMode

from prismkd.classifiers.preprocessing import Preprocessing, from_config, to_config
from prismkd.data import Geometry
from prismkd.errors import UserError

SIZES = ((64, 64), (80, 51), (7, 9), (33, 47), (20, 3), (201, 67))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
@pytest.mark.parametrize(("resize", "crop"), [
    (32, (32, 32)), (37, (32, 32)), (36, (25, 32)), ((32, 32), None), ((36, 40), (31, 33)), (24, (32, 32)),
    (24, (31, 29)), (32, None),
])  # fmt: skip
def test_pixels_are_those_of_torchvision(
    resize: int | tuple[int, int], crop: tuple[int, int] | None, interpolation: str
) -> None:
    steps: list[Any] = [transforms.Resize(resize, InterpolationMode(interpolation))]
    stock = transforms.Compose([*steps, *([transforms.CenterCrop(crop)] if crop else [])])
    for size in SIZES:
        picture = noise(*size)
        found = Geometry(resize, crop, interpolation)(picture)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(stock(picture)))


@pytest.mark.parametrize("crop", [(24, 24), (25, 25), (40, 40)])
def test_the_crop_of_transformers_rounds_down(crop: tuple[int, int]) -> None:
    from transformers.image_transforms import center_crop

    for size in SIZES:
        picture = noise(*size)
        expected = center_crop(np.asarray(picture), crop, input_data_format="channels_last")
        cut = np.asarray(Geometry(None, crop, floor_crop=True)(picture))
        if min(size) >= crop[0]:  # around a smaller one transformers has had zeros in two ways
            np.testing.assert_array_equal(cut, expected)
        assert cut.shape == expected.shape


@pytest.mark.parametrize("config", [
    {"resize": 40, "crop": [32, 30], "interpolation": "bicubic", "floor_crop": True},
    {"resize": [40, 36]},
    {"crop": [8, 8]},
    {"input_size": 24, "mean": [0.5]},
    {"input_size": 24, "resize": 32, "crop": [24, 24], "interpolation": "nearest"},
])  # fmt: skip
def test_a_configuration_means_the_same_to_reader_and_classifier(config: dict[str, Any]) -> None:
    geometry, preprocessing = Geometry.from_config(config), from_config(config)
    assert geometry is not None
    assert (geometry.resize, geometry.crop) == (preprocessing.resize, preprocessing.crop)
    assert (geometry.interpolation, geometry.floor_crop) == (preprocessing.interpolation, preprocessing.floor_crop)
    assert geometry.size == preprocessing.size
    assert Geometry.from_config(geometry.to_config()) == geometry == Geometry.from_config(to_config(preprocessing))


def test_a_classifier_of_any_size_has_no_geometry() -> None:
    assert Geometry.from_config(to_config(Preprocessing(1, mean=(0.5,)))) is None


def test_what_fits_no_memory_is_refused_before_it_is_resized() -> None:
    with pytest.raises(ValueError, match="30000 x 1 pixels, too long and narrow"):
        Geometry(256, (224, 224))(Image.new("L", (30000, 1)))


def test_bad_values_are_one_line() -> None:
    with pytest.raises(UserError, match=r"expected interpolation nearest, .* got 'cubic'; use one"):
        Geometry(8, interpolation="cubic")
    with pytest.raises(UserError, match=r"at least one pixel .* got \(8, 0, 8\)"):
        Geometry(8, (0, 8))
