"""Committed shards -> small pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prismkd import shards
from prismkd.records.results import RunResults
from prismkd.report.names import method_class, method_label
from prismkd.report.tables import class_name

MAX_CLASSES = 30
PER_CLASS = 8
MAX_SIDE = 192  # pixels; larger images are shrunk, smaller ones keep every pixel
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


def image_grids(run: RunResults) -> list[ClassGrid]:
    """Plain beside prism where the run has both, else the first method with images."""
    folders = {method: folder for method in run.folders if (folder := _image_folder(run, method))}
    shown = [method for method in ("plain", "prism") if method in folders] or list(folders)[:1]
    if not shown:
        return []
    num_classes = min(len(run.classes), MAX_CLASSES)
    indices = {shown[0]: _first_indices(folders[shown[0]], num_classes)}
    for method in shown[1:]:  # after a pilot the classes have other indices
        allocated = (folders[method].parent / "allocation.json").is_file()
        indices[method] = _first_indices(folders[method], num_classes) if allocated else indices[shown[0]]
    pictures = {}
    for method in shown:
        wanted = {index for chosen in indices[method] for index in chosen}
        pictures[method] = thumbnails_of(run, folders[method], wanted)
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


def _image_folder(run: RunResults, method: str) -> Path | None:
    folders = (folder / "images" for folder in run.folders[method])
    return next((folder for folder in folders if folder.is_dir() and shards.committed_shards(folder)), None)


def _first_indices(folder: Path, num_classes: int) -> list[list[int]]:
    """The first image indices of every class; reads no further than it must."""
    indices: list[list[int]] = [[] for _ in range(num_classes)]
    for sample in shards.read_samples(folder):
        if 0 <= sample.label < num_classes and len(indices[sample.label]) < PER_CLASS:
            indices[sample.label].append(sample.index)
            if all(len(chosen) == PER_CLASS for chosen in indices):
                break
    return indices


def thumbnails_of(
    run: RunResults, folder: Path, wanted: set[int], max_side: int = MAX_SIDE
) -> dict[tuple[int, int], Thumbnail]:
    """Thumbnails of the wanted images by (image index, label)."""
    found: dict[tuple[int, int], Thumbnail] = {}
    for sample in shards.read_samples(folder):
        if sample.index in wanted:
            found[sample.index, sample.label] = thumbnail(run, sample, max_side)
            if len(found) == len(wanted):
                break
    return found


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
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        picture.save(buffer, format="WEBP", quality=80)
    kind = "png" if buffer.getvalue().startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
