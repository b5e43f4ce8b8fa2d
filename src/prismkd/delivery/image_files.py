"""Image files as arrays that a student takes, by the rules of its training; imports no torch."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from prismkd.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

LUMA = np.array([0.2989, 0.587, 0.114], np.float32)  # of red, green and blue, as in torchvision


class UnreadableImageError(Exception):
    """A file that isn't an image, in one line."""


def find_images(given: Iterable[str]) -> list[Path]:
    """Files as they are named, and all images in folders and behind globs, each once, in order.

    A name that is no file is kept, so that whoever reads it says so.

    Raises:
        UserError: a folder without images, or a glob without files.
    """
    return list(dict.fromkeys(path for name in given for path in _expand(name)))


def _expand(name: str) -> Iterator[Path]:
    if Path(name).is_dir():
        found = sorted(path for path in Path(name).rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
        if not found:
            raise UserError(f"expected images ({' '.join(EXTENSIONS)}) in {name}, got none; check the folder")
        yield from found
    elif Path(name).exists() or not glob.has_magic(name):
        yield Path(name)
    else:
        matches = sorted(path for path in map(Path, glob.glob(name, recursive=True)) if path.is_file())
        if not matches:
            raise UserError(f"expected files behind {name}, got none; check the pattern")
        yield from matches


def read_image(path: Path) -> np.ndarray:
    """A file as float32 (channels, height, width) in [0, 1]: 1 channel for grey images, else 3.

    Photographs are turned upright, and what is transparent is shown on white.

    Raises:
        UnreadableImageError: no such file, or not an image.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
        return _to_array(image)
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except UnidentifiedImageError:
        raise UnreadableImageError("not an image") from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        raise UnreadableImageError(str(error).partition("\n")[0] or type(error).__name__) from None


def _to_array(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.asarray(image, np.float32)[None] / 65535
    if image.mode in ("I", "F"):
        raise ValueError(f"an image of mode {image.mode}, whose range isn't known")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    grey = image.mode in ("1", "L")
    pixels = np.asarray(image.convert("L" if grey else "RGB"), np.float32) / 255
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def fit(image: np.ndarray, channels: int, side: int) -> np.ndarray:
    """An image (channels, height, width) with the student's channels and size: ``Classifier.preprocess`` in numpy."""
    if len(image) != channels:
        image = np.tensordot(LUMA, image, 1)[None] if channels == 1 else np.repeat(image[:1], channels, 0)
    if image.shape[1:] == (side, side):
        return image
    levels = (image * 255 + 0.5).astype(np.uint8)  # in 8 bits, as the teacher's preprocessing rounds too
    planes = [Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR) for plane in levels]
    return np.stack([np.asarray(plane, np.float32) / 255 for plane in planes])
