"""Committed shards -> small PNG pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prismkd import shards
from prismkd.report.names import method_class, method_label
from prismkd.report.run_directory import Run
from prismkd.report.tables import class_name

MAX_CLASSES = 30
PER_CLASS = 8
MAX_SIDE = 96  # pixels; larger images are shrunk, smaller ones are enlarged by the browser


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URL; `text` is its prompt, and what the teacher sees where that is another class."""

    url: str
    text: str
    rejected: bool


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


def image_grids(run: Run) -> list[ClassGrid]:
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


def _image_folder(run: Run, method: str) -> Path | None:
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


def thumbnails_of(run: Run, folder: Path, wanted: set[int]) -> dict[tuple[int, int], Thumbnail]:
    """Thumbnails of the wanted images by (image index, label)."""
    found: dict[tuple[int, int], Thumbnail] = {}
    for sample in shards.read_samples(folder):
        if sample.index in wanted:
            found[sample.index, sample.label] = thumbnail(run, sample)
            if len(found) == len(wanted):
                break
    return found


def thumbnail(run: Run, sample: shards.Sample) -> Thumbnail:
    """A stored image in small, with its prompt and what the teacher sees."""
    seen = sample.metadata.get("teacher_top1")
    rejected = isinstance(seen, int) and seen != sample.label
    text = str(sample.metadata.get("prompt", class_name(run, sample.label)))
    if isinstance(seen, int) and rejected:
        text += f" \u2014 the teacher sees: {class_name(run, seen)}"
    return Thumbnail(png_url(sample.image), text, rejected)


def png_url(image: NDArray[np.uint8]) -> str:
    """An 8 bit image, (h, w) or (h, w, 3), as a data URL."""
    picture = Image.fromarray(image)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
