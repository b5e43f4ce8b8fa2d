"""Labeled images on disk, in the layouts that test sets come in, decoded a batch at a time.

The names are imported when they are first used: the reader of image files needs no torch, and torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prismkd.data.decode import EncodedImage
    from prismkd.data.geometry import Geometry
    from prismkd.data.images import LabeledImages
    from prismkd.data.layouts import load_domains, load_labeled_images

__all__ = [
    "EncodedImage",
    "Geometry",
    "LabeledImages",
    "load_domains",
    "load_labeled_images",
]

_HOMES = {
    "EncodedImage": "prismkd.data.decode",
    "Geometry": "prismkd.data.geometry",
    "LabeledImages": "prismkd.data.images",
    "load_domains": "prismkd.data.layouts",
    "load_labeled_images": "prismkd.data.layouts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
