"""The one reader of image files: evaluation, prediction and mixing show a network the same pixels. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from prismkd.data.geometry import Geometry
from prismkd.errors import UserError
from prismkd.files.machine import is_of_machine, remedy_for

# What is read, whatever a file is called: other decoders of Pillow are seldom used, and one starts a program (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")
NUM_DECODERS = 8  # threads: Pillow decodes outside of Python's lock
MAX_PIXELS = 2**26  # of a picture, 8192 x 8192: as numbers they take 0.8 GB, and several are decoded at once
NUM_NAMED = 5  # corrupt images that an error names
GRAY_MODES = ("1", "L", "LA", "La")
DEEP_MODE = "I;16"  # gray in 16 bits, followed by the order of its bytes
DEEP = "F"  # what it is decoded to, in [0, 1]
UNKNOWN_RANGE = ("I", "F")
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # what turns a picture of each orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)  # orientations that swap width and height

Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image as it is stored: where it is, for errors, and how its PNG, JPEG, WebP, ... bytes are opened."""

    name: str
    open: Callable[[], BinaryIO]

    def picture(self, mode: str) -> Image.Image:
        """The whole picture, upright and opaque, at its own size, in 8 bits.

        Args:
            mode: L or RGB.
        """
        with self.open() as file:
            return open_picture(file, mode)


@dataclass(frozen=True)
class Form:
    """What every image of a set is decoded to.

    Attributes:
        mode: L (gray) or RGB.
        side: the shorter side of each image is resized to it and the middle cut out, first of all; None: images stay
            as they are.
        geometry: in which the classifier sees what is left; None: as it is.
        usual_side: the side for a classifier without a geometry, where the images differ in size.
    """

    mode: str
    side: int | None
    geometry: Geometry | None = None
    usual_side: int | None = None

    @property
    def steps(self) -> list[Geometry]:
        """What is done to each picture, in this order."""
        side = self.side or (None if self.geometry else self.usual_side)
        return [*([Geometry.square(side)] if side else []), *([self.geometry] if self.geometry else [])]

    def decode(self, image: EncodedImage) -> np.ndarray:
        """float32 (channels, height, width) in [0, 1]."""
        with image.open() as file:
            return decode(file, self.mode, *self.steps)

    def check(self, image: EncodedImage) -> None:
        """Decode an image, and keep nothing of it."""
        self.decode(image)


def decode(file: BinaryIO, mode: str | None = None, *steps: Geometry) -> np.ndarray:
    """An image file's pixels, float32 (channels, height, width) in [0, 1].

    Only the formats of ``FORMATS`` are read. Photographs are turned upright by their EXIF orientation, what is
    transparent is shown on white, and gray in 16 bits keeps all of them. Of an animation it is the first picture.

    Args:
        file: opened, not a path: Pillow maps the TIFF of a path into memory, and turns some of them wrongly.
        mode: L or RGB; None: one channel for gray images, else three.
        steps: how the picture is resized and cut, one after the other; none: the size stays.

    Raises:
        OSError, ValueError, SyntaxError and others of Pillow's decoders: it isn't an image, or a damaged one.
    """
    with _opened(file) as stored:
        picture = _upright_and_opaque(stored)
    if mode is not None and picture.mode != DEEP:
        picture = picture.convert(mode)  # before it is resized, as stock transforms have it
    for step in steps:
        picture = step(picture)
    if picture.mode == DEEP:
        pixels = np.asarray(picture).clip(0, 1)[None]  # bicubic interpolation overshoots at edges
        return np.repeat(pixels, 3, 0) if mode == "RGB" else pixels
    pixels = np.asarray(picture, np.float32) / 255
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def open_picture(file: BinaryIO, mode: str) -> Image.Image:
    """A file's picture as ``decode`` sees it, upright and opaque, at its own size and in 8 bits.

    Args:
        file: as in ``decode``.
        mode: L or RGB.

    Raises:
        OSError, ValueError, SyntaxError and others of Pillow's decoders: it isn't an image, or a damaged one.
    """
    with _opened(file) as stored:
        picture = _upright_and_opaque(stored)
    if picture.mode == DEEP:
        picture = Image.fromarray((np.asarray(picture) * 255).round().astype(np.uint8))
    return picture.convert(mode)


def _opened(file: BinaryIO) -> Image.Image:
    picture = Image.open(file, formats=known_formats())
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,}; shrink it")
    return picture


@cache
def known_formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this Pillow has.

    Its decoders are imported now: later there might be no file handle left for them, and every image would be none.
    """
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright_and_opaque(stored: Image.Image) -> Image.Image:
    """L, RGB, or F in [0, 1] where 8 bits would lose some of 16."""
    _refuse_unknown_range(stored)
    picture = _upright(stored)
    if picture.mode.startswith(DEEP_MODE):
        return Image.fromarray(np.asarray(picture, np.float32) / 65535)
    is_gray = picture.mode in GRAY_MODES  # asked first: the composite is in color
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("L" if is_gray else "RGB")


def _upright(stored: Image.Image) -> Image.Image:
    stored.load()  # before the orientation is looked up: that forgives damage, and a TIFF is turned by loading it
    turn = UPRIGHT.get(_orientation(stored))
    return stored if turn is None else stored.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged note about the camera is no reason to refuse the picture
        return 1


def _refuse_unknown_range(picture: Image.Image) -> None:
    if picture.mode in UNKNOWN_RANGE:
        raise ValueError(f"an image of mode {picture.mode}, whose range isn't known")


# --- sets of images ----------------------------------------------------------------------------------------------


def common_form(images: Sequence[EncodedImage], source: str, image_size: int, usual_size: int | None) -> Form:
    """The form that fits all images: gray where all are gray, and cropped only where they differ in size.

    Args:
        images: of which only the headers are read.
        source: where they are from, for errors.
        image_size: the side that the user wants, 0 for none.
        usual_size: the side for images of several sizes where the user wants none, and the classifier has no geometry.

    Raises:
        UserError: images without a readable header, or of several sizes and no size is known.
    """
    headers = read_all(images, _size_and_mode, source)
    sizes, modes = {size for size, _ in headers}, {mode for _, mode in headers}
    usual_side = usual_size if len(sizes) > 1 else None
    if not (image_size or usual_side) and len(sizes) > 1:
        raise UserError(
            f"expected images of one size in {source}, got {sorted(sizes)[:3]}; set evaluation.image_size to what "
            "their shorter side is resized to before a square is cut out"
        )
    return Form("L" if modes == {"L"} else "RGB", image_size or None, usual_side=usual_side)


def _size_and_mode(image: EncodedImage) -> tuple[tuple[int, int], str]:
    """What ``decode`` will give, from the header alone."""
    with image.open() as file, _opened(file) as stored:
        _refuse_unknown_range(stored)
        is_gray = stored.mode in GRAY_MODES or stored.mode.startswith(DEEP_MODE)
        width, height = stored.size
        # Asked only where it matters: a PNG's orientation may stand behind its pixels, and looking for it reads them
        if width != height and _orientation(stored) in QUARTER_TURNS:
            width, height = _upright(stored).size
        return (width, height), "L" if is_gray else "RGB"


def read_all(images: Sequence[EncodedImage], read: Callable[[EncodedImage], Read], source: str) -> list[Read]:
    """What ``read`` makes of every image.

    Raises:
        UserError: it failed for some; all were tried. As of ``refuse_failed``.
    """
    known_formats()
    with ThreadPoolExecutor(NUM_DECODERS) as pool:
        results = list(pool.map(lambda image: _attempt(read, image), images))
    refuse_failed(
        [(image.name, result) for image, result in zip(images, results, strict=True) if isinstance(result, Exception)],
        len(images),
        source,
    )
    return [result for result in results if not isinstance(result, Exception)]


def refuse_failed(
    failed: Sequence[tuple[str, Exception]], count: int, source: str, remedy: str = "replace or remove them"
) -> None:
    """Refuse a set of images of which some can't be read.

    Args:
        failed: their names, and why.
        count: of all images.
        source: where they are from.
        remedy: for images that are damaged.

    Raises:
        UserError: there are some; it counts them and names the first. Where the machine failed and not the images, such
            as by too many open files, it says so.
    """
    unread = [(name, error) for name, error in failed if is_of_machine(error)]
    if unread:
        raise UserError(
            f"expected to read the {count} images in {source}, got an error for {len(unread)} of them "
            f"({_named(unread)}); {remedy_for(unread[0][1])}"
        )
    if failed:
        raise UserError(
            f"expected images that decode in {source}, got {len(failed)} of {count} that do not ({_named(failed)}); "
            f"{remedy}"
        )


def _named(failed: Sequence[tuple[str, Exception]]) -> str:
    named = "; ".join(f"{name}: {reason_of(error)[:60]}" for name, error in failed[:NUM_NAMED])
    return named + (f"; and {len(failed) - NUM_NAMED} more" if len(failed) > NUM_NAMED else "")


def reason_of(error: Exception) -> str:
    """Why an image can't be read, in words.

    Of an error of the operating system without its number and the file's name, which is said anyway.
    """
    if isinstance(error, UnidentifiedImageError):  # whose text is that of an open file
        return "not an image"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
    return text or type(error).__name__


def _attempt(read: Callable[[EncodedImage], Read], image: EncodedImage) -> Read | Exception:
    try:
        return read(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        return error
