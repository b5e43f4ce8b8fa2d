"""What the build does with pictures: draw, recolor, tell near-duplicates, pack, and put on contact sheets."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

SIZE = 64
SHEET_COLUMNS = 20
MAX_SIMILARITY = 0.97  # correlation of 16 x 16 thumbnails above which two icons are one drawing
MAX_LUMINANCE = 250  # of an icon that shows something
MIN_CONTRAST = 0.35  # of the luminances of drawing and background, in [0, 1]
LUMINANCE = np.array([0.299, 0.587, 0.114])
COLORS = {
    "red": (214, 40, 40), "orange": (245, 130, 32), "yellow": (250, 208, 44), "green": (46, 160, 67),
    "teal": (20, 150, 150), "blue": (38, 90, 220), "purple": (128, 60, 180), "pink": (240, 110, 170),
    "brown": (130, 82, 46), "gray": (128, 128, 128), "black": (10, 10, 10), "white": (250, 250, 250),
}  # fmt: skip


def render(svg: str) -> np.ndarray | None:
    """The icon as a (64, 64, 3) uint8 image on white, or None when there is nothing to see."""
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, background="white")
    except ValueError:
        return None
    image = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    luminance = image @ LUMINANCE
    blank = image.shape[:2] != (SIZE, SIZE) or luminance.min() > 160 or not 5 < luminance.mean() < MAX_LUMINANCE
    return None if blank else image


def is_gray(image: np.ndarray) -> bool:
    """Whether an image (height, width, 3) has no color, so that it may be given some."""
    return bool((image == image[..., :1]).all())


def recolored(image: np.ndarray, drawing: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A gray icon (64, 64, 3) in two colors (3,): black becomes ``drawing``, white ``background``."""
    share = image[..., :1].astype(np.float64) / 255
    return np.rint((1 - share) * drawing + share * background).astype(np.uint8)


def contrast(drawing: ArrayLike, background: ArrayLike) -> float:
    """The difference of two colors' luminances, in [0, 1]."""
    return float(abs((np.asarray(drawing, float) - np.asarray(background, float)) @ LUMINANCE)) / 255


def random_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Any two colors (3,) that can be told from each other."""
    while True:
        drawing, background = rng.uniform(0, 255, (2, 3))
        if contrast(drawing, background) >= MIN_CONTRAST:
            return drawing, background


def named_colors(rng: np.random.Generator) -> tuple[str, str]:
    """Names of two colors that can be told from each other, of the drawing and the background."""
    while True:
        drawing, background = rng.choice(list(COLORS), 2, replace=False).tolist()
        if contrast(COLORS[drawing], COLORS[background]) >= MIN_CONTRAST:
            return drawing, background


def thumbnails(images: np.ndarray) -> np.ndarray:
    """(n, 64, 64, 3) uint8 -> (n, 256) float32 gray thumbnails, centered and of unit length."""
    small = images.reshape(-1, 16, SIZE // 16, 16, SIZE // 16, 3).mean(axis=(2, 4), dtype=np.float32)
    small = (small @ LUMINANCE.astype(np.float32)).reshape(len(images), -1)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def max_similarity(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``images`` the correlation with its most similar one of ``others``."""
    references = thumbnails(others)
    chunks = np.array_split(images, max(1, len(images) // 2048))
    return np.concatenate([(thumbnails(chunk) @ references.T).max(axis=1) for chunk in chunks])


def first_of_each_drawing(images: np.ndarray) -> np.ndarray:
    """A mask that keeps the first of every group of near-identical images."""
    vectors = thumbnails(images)
    keep = np.ones(len(images), dtype=bool)
    for index in range(1, len(images)):
        earlier = vectors[:index][keep[:index]]
        keep[index] = (earlier @ vectors[index]).max(initial=-1) < MAX_SIMILARITY
    return keep


def encoded(image: np.ndarray) -> bytes:
    """An image (64, 64, 3) as WebP without loss, which takes about half of what PNG does."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", lossless=True, quality=75, method=6)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """The image (64, 64, 3) of ``encoded``."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def contact_sheet(images: np.ndarray) -> Image.Image:
    """Images (n, 64, 64, 3) side by side on one sheet."""
    count = -(-len(images) // SHEET_COLUMNS) * SHEET_COLUMNS
    padded = np.full((count, SIZE + 2, SIZE + 2, 3), 200, np.uint8)
    padded[: len(images), 1:-1, 1:-1] = images
    rows = padded.reshape(-1, SHEET_COLUMNS, SIZE + 2, SIZE + 2, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(-1, SHEET_COLUMNS * (SIZE + 2), 3))
