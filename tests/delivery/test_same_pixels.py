"""A student is shown the same pixels of a file in `prismkd predict` as in `prismkd evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from prismkd.classifiers import Classifier
from prismkd.data import Geometry, load_labeled_images
from prismkd.delivery.predict import Student, predict_files
from prismkd.delivery.student_folder import Delivered, delivered_config
from prismkd.evaluation.students import logits_of

SIDE = 32
COARSE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
PHOTO = Image.fromarray(COARSE).resize((120, 90), Image.Resampling.BICUBIC)
SQUARE = PHOTO.resize((SIDE, SIDE))


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def clear(image: Image.Image) -> Image.Image:
    """The image with a hole in the middle and a veil on top."""
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (8, 8, 24, 24))
    alpha.paste(100, (0, 0, image.width, 4))
    image = image.copy()
    image.putalpha(alpha)
    return image


def deep(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, size[0] * size[1]).reshape(size[::-1]).astype(np.uint16))


KINDS: dict[str, Callable[[Path], None]] = {
    "square.png": SQUARE.save,
    "photo.png": PHOTO.save,
    "odd.png": PHOTO.resize((51, 34)).save,
    "tall.png": PHOTO.resize((20, 77)).save,
    "gray.png": PHOTO.convert("L").save,
    "bits.png": SQUARE.convert("1").save,
    "deep.png": deep((SIDE, SIDE)).save,
    "deep_photo.png": deep((90, 60)).save,
    "deep_turned.tif": lambda path: deep((90, 60)).save(path, exif=orientation(6)),
    "turned.jpg": lambda path: PHOTO.save(path, exif=orientation(6)),
    "mirrored.png": lambda path: PHOTO.save(path, exif=orientation(5)),
    "upside_down.webp": lambda path: SQUARE.save(path, exif=orientation(3), lossless=True),
    "transparent.png": clear(SQUARE).save,
    "transparent_photo.webp": lambda path: clear(PHOTO).save(path, lossless=True),
    "gray_and_alpha.png": clear(SQUARE.convert("L")).save,
    "palette.gif": SQUARE.quantize(16).save,
    "palette_with_a_hole.gif": lambda path: SQUARE.quantize(16).save(path, transparency=3),
    "cmyk.jpg": PHOTO.convert("CMYK").save,
    "palette_with_a_hole.png": lambda path: PHOTO.quantize(16).save(path, transparency=3),
    "gray_and_alpha_photo.png": clear(PHOTO.convert("L")).save,
    "bits_photo.png": PHOTO.convert("1").save,
    "moving.gif": lambda path: PHOTO.save(path, save_all=True, append_images=[PHOTO.rotate(90)]),
    "tiny.png": PHOTO.resize((20, 20)).save,
    "ribbon.png": PHOTO.resize((640, 9)).save,
}
SQUARE_OF_SIDE = Geometry.square(SIDE)
GEOMETRIES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "center": {"resize": 40, "crop": [SIDE, SIDE], "interpolation": "bicubic"},
    "squash": {"resize": [35, 35], "crop": [SIDE, SIDE]},
    "floor": {"resize": 37, "crop": [SIDE, SIDE], "floor_crop": True},
    "padded": {"resize": 24, "crop": [SIDE, SIDE], "interpolation": "nearest"},
}


class Witness(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return torch.zeros(len(images), 2)


def shown_in_evaluation(folder: Path, channels: int, config: dict[str, Any] | None) -> np.ndarray:
    witness = Witness()
    classifier = Classifier(witness, {"num_classes": 2, "in_channels": channels, **(config or {})})
    images = load_labeled_images(folder, 1, usual_size=SIDE) if config else load_labeled_images(folder, 1, SIDE)
    logits_of(classifier, images)
    return torch.cat(witness.seen).numpy()


def shown_in_prediction(file: Path, channels: int, geometry: Geometry) -> np.ndarray:
    seen = list[np.ndarray]()

    def logits(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros((len(images), 2), np.float32)

    (prediction,) = predict_files(Student(logits, Delivered(["a", "b"], channels, geometry)), [file], 1)
    assert not prediction.problem
    return np.concatenate(seen)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_prediction_show_the_same(kind: str, channels: int, geometry: str, tmp_path: Path) -> None:
    file = tmp_path / "0" / kind
    file.parent.mkdir()
    KINDS[kind](file)
    config = GEOMETRIES[geometry]
    evaluated = shown_in_evaluation(tmp_path, channels, config)
    # From the configuration that the student is delivered with
    delivered = delivered_config(config or {}, ["a", "b"], Geometry.from_config(config or {}) or SQUARE_OF_SIDE, None)
    predicted = shown_in_prediction(file, channels, Geometry.from_config(delivered) or SQUARE_OF_SIDE)
    assert evaluated.shape == predicted.shape == (1, channels, SIDE, SIDE)
    np.testing.assert_array_equal(predicted, evaluated)
    assert predicted.std() > 0.05
