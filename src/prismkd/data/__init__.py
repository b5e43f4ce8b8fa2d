"""Labelled images on disk, in the layouts that test sets come in, decoded a batch at a time."""

from prismkd.classes.matching import ClassLabels
from prismkd.data.images import EncodedImage, LabelledImages
from prismkd.data.sources import load_domains, load_labelled_images

__all__ = [
    "ClassLabels",
    "EncodedImage",
    "LabelledImages",
    "load_domains",
    "load_labelled_images",
]
