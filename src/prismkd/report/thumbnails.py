"""Committed shards -> small pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prismkd import shards
from prismkd.records.results import RunResults
from prismkd.report.names import method_class, method_label
from prismkd.report.stored_images import StoredImages, first_indices, read_few
from prismkd.report.tables import class_name

MAX_CLASSES = 30
PER_CLASS = 8
MAX_SIDE = 160  # pixels; larger images are shrunk, smaller ones keep every pixel
TINY = 64  # pixels; up to here every pixel is shown as a square


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URL; `text` is its prompt, and what the teacher sees where that is another class.

    A `tiny` picture is enlarged pixel by pixel.
    """

    url: str
    text: str
    rejected: bool
    tiny: bool = True

    @property
    def style(self) -> str:
        """CSS classes."""
        return " ".join(["pixels"] * self.tiny + ["rejected"] * self.rejected)


@dataclass(frozen=True)
class Strip:
    """The images of one method for one class; None where the method has no image of that index."""

    label: str
    style: str
    thumbnails: list[Thumbnail | None]


@dataclass(frozen=True)
class ClassGrid:
    """One class: one strip per method, column i shows the same image index in every strip."""

    name: str
    strips: list[Strip]


def image_grids(run: RunResults, stored: StoredImages) -> list[ClassGrid]:
    """Plain beside prism where the run has both, else the first method with images."""
    datasets = stored.datasets
    shown = [method for method in ("plain", "prism") if method in datasets] or list(datasets)[:1]
    if not shown:
        return []
    num_classes = min(len(run.classes), MAX_CLASSES)
    indices = {shown[0]: first_indices(datasets[shown[0]], num_classes, PER_CLASS)}
    for method in shown[1:]:
        same = datasets[method].in_turn  # then a column shows one index, which has the same noise in every method
        indices[method] = indices[shown[0]] if same else first_indices(datasets[method], num_classes, PER_CLASS)
    pictures = {
        method: thumbnails_of(run, datasets[method].storage, {i for chosen in indices[method] for i in chosen})
        for method in shown
    }
    return [
        ClassGrid(
            class_name(run, label),
            [
                Strip(method_label(m), method_class(m), [pictures[m].get((i, label)) for i in indices[m][label]])
                for m in shown
            ],
        )
        for label in range(num_classes)
        if indices[shown[0]][label]
    ]


def thumbnails_of(
    run: RunResults, storage: shards.Storage, wanted: set[int], max_side: int = MAX_SIDE
) -> dict[tuple[int, int], Thumbnail]:
    """Thumbnails of the wanted images by (image index, label)."""
    return {(sample.index, sample.label): thumbnail(run, sample, max_side) for sample in read_few(storage, wanted)}


def thumbnail(run: RunResults, sample: shards.Sample, max_side: int = MAX_SIDE) -> Thumbnail:
    """A stored image in small, with its prompt and what the teacher sees."""
    seen = sample.metadata.get("teacher_top1")
    rejected = isinstance(seen, int) and seen != sample.label
    text = str(sample.metadata.get("prompt", class_name(run, sample.label)))
    if isinstance(seen, int) and rejected:
        text += f" \u2014 the teacher sees: {class_name(run, seen)}"
    return Thumbnail(picture_url(sample.image, max_side), text, rejected, max(sample.image.shape[:2]) <= TINY)


def picture_url(image: NDArray[np.uint8], max_side: int) -> str:
    """An 8 bit image, (h, w) or (h, w, 3), as a data URL: PNG, or WebP where it had to be shrunk."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= max_side:
        picture.save(buffer, format="PNG", optimize=True)
    else:
        # 500 photos as PNG would make a page of more than 20 MB, so they take 3; small images keep every pixel
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        picture.save(buffer, format="WEBP", quality=70)
    kind = "png" if buffer.getvalue().startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
