"""ImageFolder's layout: class folders with images, or domain folders with class folders."""

from __future__ import annotations

import os
from pathlib import Path

from prismkd.classes.matching import ClassLabels
from prismkd.data.listing import Listing, file_opener
from prismkd.errors import UserError, warn
from prismkd.files.machine import remedy_for

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
# Pictures that Pillow doesn't open, or not everywhere: they are left out, and that is said
UNREAD = (".heic", ".heif", ".jxl", ".jp2", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw")


def list_class_folders(folder: Path, classes: ClassLabels) -> Listing:
    """The images of ``folder/class`` (domain ``id``) or ``folder/domain/class``, at any depth below the class.

    Folders are classes where images lie in one of them, or where all are called like classes; else they are domains.

    Raises:
        UserError: folders that stand for no class, or that hold no image.
    """
    children = _folders(folder)
    if not children:
        raise UserError(f"expected class folders or domain folders in {folder}, got none; check the path")
    say_unread(folder)
    listing = Listing()
    if any(map(_holds_images, children)) or classes.know([child.name for child in children]):
        _add_classes(listing, children, classes, "id", folder)
        return listing
    for child in children:
        _add_classes(listing, _folders(child), classes, child.name, child)
    return listing


def images_below(folder: Path) -> list[Path]:
    """The image files at any depth below a folder, by name; not what is hidden, such as ``.ipynb_checkpoints``.

    Raises:
        UserError: a folder in it can't be read.
    """
    paths = list[Path]()
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(root, name) for name in names if _is_image(name)]
    return [path for path in sorted(paths) if path.is_file()]


def _refuse(error: OSError) -> None:
    raise UserError(f"expected to read {error.filename}, got: {error.strerror}; {remedy_for(error)}") from None


def say_unread(folder: Path) -> None:
    """Warn of pictures below a folder that aren't read, since their formats are other than ``SUFFIXES``."""
    unread = [path for path in folder.rglob("*") if path.suffix.lower() in UNREAD and not path.name.startswith(".")]
    if unread:
        name, suffix = min(unread).name, min(unread).suffix.lower()
        warn(
            f"{len(unread)} pictures in {folder} are left out, such as {name}, since {suffix} isn't read; convert them "
            "to PNG or JPEG"
        )


def _add_classes(listing: Listing, folders: list[Path], classes: ClassLabels, domain: str, parent: Path) -> None:
    if not folders:
        raise UserError(f"expected class folders in {parent}, got none; check the path")
    labels = classes.of([folder.name for folder in folders], str(parent))
    for label, folder in sorted(zip(labels, folders, strict=True)):
        paths = images_below(folder)
        if not paths:
            raise UserError(f"expected images in {folder}, got none; remove the folder, or check its files' suffixes")
        for path in paths:
            listing.add(str(path), file_opener(path), label, domain)


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:  # stops at the first: a class folder may hold thousands
        return any(_is_image(entry.name) for entry in entries if entry.is_file())


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
