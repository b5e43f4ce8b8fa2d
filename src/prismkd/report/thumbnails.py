"""Committed shards -> small pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prismkd import shards
from prismkd.records.results import RunResults
from prismkd.report.confusion import confusion_of
from prismkd.report.names import method_class, method_label
from prismkd.report.stored_images import StoredDataset, StoredImages, first_indices, read_few
from prismkd.report.tables import class_name

MAX_CLASSES, PER_CLASS = 30, 8
MAX_FOLDED, PER_FOLDED = 90, 4  # classes after those, in brief: all of them in full would be twice as many images
MAX_SIDE = 160  # pixels; larger images are shrunk
EXACT = 32  # pixels; up to here nothing is lost
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


@dataclass(frozen=True)
class Gallery:
    """Images by class: the first classes in full, further ones in brief; ``which`` says which classes come first."""

    full: list[ClassGrid]
    folded: list[ClassGrid]
    which: str


def gallery(run: RunResults, stored: StoredImages) -> Gallery | None:
    """Plain beside prism where the run has both, else the first method with images; None without images."""
    datasets = stored.datasets
    shown = [method for method in ("plain", "prism") if method in datasets] or list(datasets)[:1]
    if not shown:
        return None
    labels, which = _in_order(run, shown)
    first = first_indices(datasets[shown[0]], labels[: MAX_CLASSES + MAX_FOLDED], PER_CLASS)
    labels = [label for label, indices in first.items() if indices]
    per_class = {label: PER_CLASS if place < MAX_CLASSES else PER_FOLDED for place, label in enumerate(labels)}
    strips = [_strips(run, datasets[shown[0]], shown[0], first, per_class)]
    for method in shown[1:]:
        same = datasets[method].in_turn  # then a column shows one index, which has the same noise in every method
        indices = first if same else first_indices(datasets[method], labels, PER_CLASS)
        strips.append(_strips(run, datasets[method], method, indices, per_class))
    grids = [ClassGrid(class_name(run, label), [of_method[label] for of_method in strips]) for label in labels]
    return Gallery(grids[:MAX_CLASSES], grids[MAX_CLASSES:], which)


def _strips(
    run: RunResults, dataset: StoredDataset, method: str, indices: Mapping[int, list[int]], per_class: Mapping[int, int]
) -> dict[int, Strip]:
    """By label the first ``per_class`` of a method's images at ``indices``."""
    chosen = {label: indices[label][:count] for label, count in per_class.items()}
    pictures = thumbnails_of(run, dataset.storage, {index for of_class in chosen.values() for index in of_class})
    return {
        label: Strip(method_label(method), method_class(method), [pictures.get((i, label)) for i in of_class])
        for label, of_class in chosen.items()
    }


def _in_order(run: RunResults, shown: Sequence[str]) -> tuple[list[int], str]:
    """All labels, and in words which are first: of many classes those on which the shown methods' students differ."""
    num_classes = len(run.classes)
    labels = list(range(num_classes))
    if num_classes <= MAX_CLASSES:
        return labels, "each class"
    for against in ("truth", "teacher"):
        shares = [counts.shares for method in shown if (counts := confusion_of(run, method, against))]
        if len(shares) == 2:
            difference = np.nan_to_num(np.abs(shares[0] - shares[1]), nan=-1)
            students = " and ".join(method_label(method) for method in shown)
            which = f"the {MAX_CLASSES} of {num_classes:,} classes on which the students of {students} differ most"
            return np.argsort(-difference, kind="stable").tolist(), which
    return labels, f"the first {MAX_CLASSES} of {num_classes:,} classes"


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
    """An 8 bit image, (h, w) or (h, w, 3), as a data URL: PNG up to `EXACT` pixels a side, else WebP."""
    picture, buffer, side = Image.fromarray(image), io.BytesIO(), max(image.shape[:2])
    if side <= EXACT:
        picture.save(buffer, format="PNG", optimize=True)
    else:
        # Of 1,000 color icons of 64 pixels PNG would make a page of 9 MB, and this makes 2
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        picture.save(buffer, format="WEBP", quality=85 if side <= max_side else 70)
    kind = "png" if side <= EXACT else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
