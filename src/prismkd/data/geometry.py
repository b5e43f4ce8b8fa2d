"""How a classifier's own library resizes and cuts a picture, with Pillow and in 8 bits; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from prismkd.errors import UserError

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
Size = tuple[int, int]  # height, width
MAX_PIXELS = 2**25  # of a resized picture: a panorama of 30 to 1 at 1024 pixels


@dataclass(frozen=True)
class Geometry:
    """Resize, then crop: the same pixels as after torchvision's, timm's and transformers' own transforms.

    Attributes:
        resize: what the shorter side becomes, or exact height and width; None: pictures stay as large as they are.
        crop: height and width of what is then cut from the center, with zeros around a picture that is smaller; None:
            nothing is cut.
        interpolation: one of ``FILTERS``, as Pillow names them.
        floor_crop: where the spare pixels are odd, cut one less at the top and left, as transformers does; torchvision
            rounds half to even.
    """

    resize: int | Size | None = None
    crop: Size | None = None
    interpolation: str = "bilinear"
    floor_crop: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in FILTERS:
            raise UserError(f"expected interpolation {', '.join(FILTERS)}, got {self.interpolation!r}; use one")
        sides = (*((self.resize,) if isinstance(self.resize, int) else self.resize or ()), *(self.crop or ()))
        if any(side < 1 for side in sides):
            raise UserError(f"expected sides of at least one pixel to resize and crop to, got {sides}; correct them")

    @staticmethod
    def square(side: int) -> Geometry:
        """The shorter side resized to ``side`` (bicubic), and the middle cut out."""
        return Geometry(side, (side, side), "bicubic")

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Geometry | None:
        """From the keys of a classifier's ``config.json``; None where it takes pictures as they are.

        They are read as ``classifiers.preprocessing.from_config`` reads them.
        """
        side = config.get("input_size")
        resize, crop = config.get("resize", [side, side] if side else None), config.get("crop")
        if resize is None and crop is None:
            return None
        return Geometry(
            resize if resize is None or isinstance(resize, int) else (int(resize[0]), int(resize[1])),
            None if crop is None else (int(crop[0]), int(crop[1])),
            config.get("interpolation", "bilinear"),
            config.get("floor_crop", False),
        )

    def to_config(self) -> dict[str, Any]:
        """Plain data for a ``config.json``, which ``from_config`` reads back."""
        config: dict[str, Any] = {"interpolation": self.interpolation}
        config |= {"floor_crop": True} if self.floor_crop else {}
        config |= {} if self.resize is None else {"resize": self.resize if isinstance(self.resize, int)
                                                  else list(self.resize)}  # fmt: skip
        return config | ({} if self.crop is None else {"crop": list(self.crop)})

    @property
    def size(self) -> Size | None:
        """Height and width of what comes out; None: they follow from the picture's."""
        return self.crop or (None if isinstance(self.resize, int) else self.resize)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The part of a picture that the classifier sees.

        Raises:
            ValueError: the picture is so long and narrow that the resized one would not fit in memory.
        """
        width, height = self._resized(*picture.size)
        if width * height > MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels, too long and narrow to be resized")
        if (width, height) != picture.size:
            picture = picture.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if self.crop is None:
            return picture
        crop_height, crop_width = self.crop
        left, top = self.margin(width - crop_width), self.margin(height - crop_height)
        return picture.crop((left, top, left + crop_width, top + crop_height))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing; the longer side is rounded down."""
        if self.resize is None:
            return width, height
        if not isinstance(self.resize, int):
            return self.resize[1], self.resize[0]
        shorter = min(width, height)
        return self.resize * width // shorter, self.resize * height // shorter

    def margin(self, spare: int) -> int:
        """Pixels of ``spare`` to cut off at the top or left; negative ones are missing, and filled with zeros."""
        if spare < 0:
            return -(-spare // 2)
        return spare // 2 if self.floor_crop else round(spare / 2)
