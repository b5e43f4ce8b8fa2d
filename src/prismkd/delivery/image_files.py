"""Image files as arrays that a student takes, by the rules of its evaluation; imports no torch."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from prismkd.data.class_folders import SUFFIXES, images_below, say_unread
from prismkd.data.decode import decode, reason_of
from prismkd.data.geometry import Geometry
from prismkd.errors import UserError
from prismkd.files import open_plain
from prismkd.files.machine import is_exhausted, remedy_for


class UnreadableImageError(Exception):
    """A file that isn't an image, in one line."""


def find_images(names: Iterable[str]) -> list[Path]:
    """Files as they are named, and all images in folders and behind globs, each once, in order.

    A name that is no file is kept, so that whoever reads it says so.

    Raises:
        UserError: a folder without images, or a glob without files.
    """
    return list(dict.fromkeys(path for name in names for path in _expand(name)))


def _expand(name: str) -> Iterator[Path]:
    if Path(name).is_dir():
        say_unread(Path(name))
        images = images_below(Path(name))
        if not images:
            raise UserError(f"expected images ({' '.join(SUFFIXES)}) in {name}, got none; check the folder")
        yield from images
    elif Path(name).exists() or not glob.has_magic(name):
        yield Path(name)
    else:
        matches = sorted(path for path in map(Path, glob.glob(name, recursive=True)) if path.is_file())
        if not matches:
            raise UserError(f"expected files behind {name}, got none; check the pattern")
        yield from matches


def read_image(path: Path, channels: int, geometry: Geometry) -> np.ndarray:
    """A file as its student sees it in evaluation: float32 (channels, height, width) in [0, 1].

    Args:
        path: of the file.
        channels: 1 (gray) or 3 (color).
        geometry: the student's.

    Raises:
        UnreadableImageError: no such file, or not an image.
        UserError: there is no file handle left to open it by.
    """
    try:
        with open_plain(path) as file:
            return decode(file, "L" if channels == 1 else "RGB", geometry)
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        if is_exhausted(error):
            raise UserError(f"expected to read {path}, got: {reason_of(error)}; {remedy_for(error)}") from None
        raise UnreadableImageError(reason_of(error)) from None
