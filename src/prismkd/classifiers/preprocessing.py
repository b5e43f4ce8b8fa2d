"""What a network wants of an image, as data, applied with differentiable tensor operations.

Stock transforms work on 8-bit pictures of Pillow; here the same happens on tensors, so that guidance has a gradient and
teacher and student see what the teacher's own library would show them. ``tests/classifiers/test_preprocessing.py``
holds the logits to those after the stock transform, and ``prismkd doctor`` compares them for any teacher.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import rgb_to_grayscale

from prismkd.config import PreprocessingConfig
from prismkd.config.settings import INTERPOLATIONS
from prismkd.errors import UserError
from prismkd.foreign import MAX_SIDE
from prismkd.text import shortened

# As transformers' ``resample`` numbers them
PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
SET_BY_HAND = "set teacher_preprocessing (resize or crop, mean and std)"
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Preprocessing:
    """From images (batch, channels, height, width) in [0, 1] to a network's input.

    Attributes:
        in_channels: 1 (gray) or 3 (color); images of the other kind are converted.
        resize: what the shorter side becomes, or exact height and width; None: images stay as large as they are.
        crop: height and width of what is then cut from the center; None: nothing is cut.
        interpolation: bilinear, bicubic (both with antialiasing) or nearest.
        mean: per channel, subtracted.
        std: per channel, divided by.
        floor_crop: where the spare pixels are odd, cut one less at the top and left, as transformers does; torchvision
            rounds half to even.
    """

    in_channels: int = 3
    resize: int | Size | None = None
    crop: Size | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    floor_crop: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"expected interpolation {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}; {SET_BY_HAND}"
            )
        for size in (self.resize, self.crop):
            sides = size if isinstance(size, tuple) else (size,)
            if any(side is not None and not 1 <= side <= MAX_SIDE for side in sides):
                raise UserError(f"expected sides of 1 to {MAX_SIDE} pixels, got {shortened(size)}; {SET_BY_HAND}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.in_channels):
                raise UserError(
                    f"expected {name} with a value for each of {self.in_channels} channels, got {len(values)}; "
                    "correct it"
                )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or 0 in self.std:
            raise UserError(f"expected finite mean and std, and no std of 0, got {self.mean}, {self.std}; correct them")

    def __call__(self, images: Tensor, *, cropped: bool = False) -> Tensor:
        """The network's input (batch, in_channels, height, width); differentiable with respect to ``images``.

        Args:
            images: (batch, channels, height, width) in [0, 1].
            cropped: the images have been resized and cut already, as the views of a training are: no margin is cut off
                again, and they are resized only where they haven't the network's size.
        """
        images = _with_channels(images, self.in_channels)
        size = self.size if cropped and self.size else self.resized(images.shape[-2], images.shape[-1])
        if size != images.shape[-2:]:
            images = _resize(images, size, self.interpolation)
        if self.crop is not None and self.crop != images.shape[-2:]:
            images = _crop(images, self.crop, floor=self.floor_crop)
        mean, std = (_constant(values, images) for values in (self.mean, self.std))
        return (images - mean) / std

    @property
    def size(self) -> Size | None:
        """Height and width of the network's input; None: it takes any size, or the size follows from the image's."""
        return self.crop or (None if isinstance(self.resize, int) else self.resize)

    def resized(self, height: int, width: int) -> Size:
        """The size that an image has after resizing; the longer side is rounded down, as torchvision does."""
        if self.resize is None:
            return height, width
        if not isinstance(self.resize, int):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def describe(self) -> str:
        """One line for people, such as ``3 channels, shorter side to 256 (bicubic), center 224 x 224, mean ...``."""
        resize, crop = self.resize, self.crop
        if isinstance(resize, int):
            steps = [f"shorter side to {resize} ({self.interpolation})"]
        else:
            steps = [f"to {resize[0]} x {resize[1]} ({self.interpolation})"] if resize else ["any size"]
        steps += [f"center {crop[0]} x {crop[1]}"] if crop else []
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        channels = "gray" if self.in_channels == 1 else f"{self.in_channels} channels"
        return ", ".join([channels, *steps, f"mean {mean}", f"std {std}"])


def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """One value per channel (1, channels, 1, 1), where the images are.

    Sent to a CUDA device once, since sending it at each call would wait for all that the device still has to do.
    """
    if like.device.type == "cuda":
        return _constant_on_cuda(values, like.dtype, like.device)
    return like.new_tensor(values).view(1, -1, 1, 1)


@cache
def _constant_on_cuda(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else it could take part in no gradient
        return torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)


def _with_channels(images: Tensor, in_channels: int) -> Tensor:
    if images.shape[1] == in_channels:
        return images
    # To gray with Pillow's weights of red, green and blue, as in stock transforms; to color with three equal values.
    return rgb_to_grayscale(images) if in_channels == 1 else images[:, :1].repeat(1, in_channels, 1, 1)


def _resize(images: Tensor, size: Size, interpolation: str) -> Tensor:
    """Width, then height, each rounded to 8 bits, as Pillow and torchvision do."""
    if interpolation == "nearest":
        return F.interpolate(images, size, mode="nearest-exact")  # torch's plain "nearest" has an old offset
    for one_side in ((images.shape[-2], size[1]), size):
        if one_side != images.shape[-2:]:
            images = F.interpolate(images, one_side, mode=interpolation, antialias=True, align_corners=False)
            images = images.clamp(0, 1)  # bicubic overshoots
            # Rounded in value, but the gradient passes as if it weren't: that of rounding itself is zero.
            images = images + (images.detach().mul(255).add(0.5).floor().div(255) - images.detach())
    return images


def _crop(images: Tensor, size: Size, *, floor: bool) -> Tensor:
    """The center; where a side is shorter than that, zeros around it, as torchvision does."""
    missing = [max(0, side - actual) for side, actual in zip(size, images.shape[-2:], strict=True)]
    if any(missing):
        top, left = missing[0] // 2, missing[1] // 2
        images = F.pad(images, [left, missing[1] - left, top, missing[0] - top])
    spare = [actual - side for side, actual in zip(size, images.shape[-2:], strict=True)]
    top, left = (pixels // 2 if floor else round(pixels / 2) for pixels in spare)
    return images[..., top : top + size[0], left : left + size[1]]


# --- from the descriptions of other libraries --------------------------------------------------------------------


def from_config(config: Mapping[str, Any]) -> Preprocessing:
    """From the keys of a classifier folder's ``config.json``, which are the attributes' names.

    ``input_size`` alone means an exact square of so many pixels; what is left out has the default.
    """
    side = config.get("input_size")
    resize, crop = config.get("resize", (side, side) if side else None), config.get("crop")
    return Preprocessing(
        in_channels=operator.index(config.get("in_channels", 3)),
        resize=resize if resize is None or isinstance(resize, int) else (int(resize[0]), int(resize[1])),
        crop=None if crop is None else (int(crop[0]), int(crop[1])),
        interpolation=config.get("interpolation", "bilinear"),
        mean=tuple(config.get("mean", [0.0])),
        std=tuple(config.get("std", [1.0])),
        floor_crop=bool(config.get("floor_crop", False)),
    )


def to_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """Plain data for a ``config.json``, which ``from_config`` reads back."""
    resize, crop = preprocessing.resize, preprocessing.crop
    config: dict[str, Any] = {"in_channels": preprocessing.in_channels, "interpolation": preprocessing.interpolation,
                              "mean": list(preprocessing.mean), "std": list(preprocessing.std)}  # fmt: skip
    config |= {"floor_crop": True} if preprocessing.floor_crop else {}
    config |= {} if resize is None else {"resize": resize if isinstance(resize, int) else list(resize)}
    return config | ({} if crop is None else {"crop": list(crop)})


def from_timm(pretrained_cfg: Mapping[str, Any]) -> Preprocessing:
    """timm's evaluation transform, from a model's ``pretrained_cfg``.

    Raises:
        UserError: as ``from_timm_data``.
    """
    from timm.data import resolve_data_config

    return from_timm_data(resolve_data_config(pretrained_cfg=dict(pretrained_cfg)))


def from_timm_data(config: Mapping[str, Any]) -> Preprocessing:
    """timm's evaluation transform, from what ``timm.data.resolve_data_config`` gives.

    Raises:
        UserError: the image's shape decides what is scaled, or borders are added.
    """
    channels, height, width = config["input_size"]
    if config["crop_mode"] == "border":
        raise UserError(f"expected timm's crop mode center or squash, got border; {SET_BY_HAND}")
    if config["crop_mode"] == "center" and height != width:
        raise UserError(
            f"expected timm's crop mode squash for an input that is no square, got center for {height} x {width}; "
            f"{SET_BY_HAND}"
        )
    # The crop's share of the resized image: resize to 224 / 0.875 = 256 and cut 224.
    scaled = (math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"]))
    return Preprocessing(channels, scaled if config["crop_mode"] == "squash" else scaled[0], (height, width),
                         config["interpolation"], tuple(config["mean"]), tuple(config["std"]))  # fmt: skip


def from_torchvision(preset: Any) -> Preprocessing:
    """torchvision's ``ImageClassification`` preset, as ``weights.transforms()`` gives it."""
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    return Preprocessing(3, resize, (crop, crop), preset.interpolation.value, tuple(preset.mean), tuple(preset.std))


def from_transformers(processor: Mapping[str, Any], in_channels: int = 3) -> Preprocessing:
    """A ``preprocessor_config.json`` of transformers, or an image processor's ``to_dict()``.

    Args:
        processor: the description.
        in_channels: that the network takes.

    Raises:
        UserError: it does what isn't known here, such as padding.
    """
    for step, name in (("do_pad", "pads"), ("do_flip_channel_order", "swaps red and blue")):
        if processor.get(step):
            raise UserError(
                f"expected an image processor that resizes, crops and normalizes, got one that {name}; {SET_BY_HAND}"
            )
    resize = crop_to = None
    if processor.get("do_resize", True) and processor.get("size"):
        resize, crop_to = _resize_of_transformers(_as_size(processor["size"]), processor)
    if processor.get("do_center_crop") and processor.get("crop_size"):
        crop_to = _exact(_as_size(processor["crop_size"]))
    mean, std = _normalization_of_transformers(processor)
    number = int(processor.get("resample", 2))
    return Preprocessing(in_channels, resize, crop_to, PILLOW_FILTERS.get(number, f"number {number}"), mean, std, True)


def _as_size(size: Any) -> Mapping[str, Any]:
    """transformers' ``size`` as a dictionary; old configurations have one number for a square."""
    return {"height": size, "width": size} if isinstance(size, int) else {k: v for k, v in size.items() if v}


def _exact(size: Mapping[str, Any]) -> Size:
    """Height and width of a ``size``, or of a square of its ``shortest_edge``."""
    if not (size.keys() >= {"height", "width"} or size.keys() == {"shortest_edge"}):
        raise UserError(
            f"expected an image processor whose size has height and width, or shortest_edge alone, got "
            f"{' and '.join(size) or 'none'}; {SET_BY_HAND}"
        )
    edge = size.get("shortest_edge", 0)
    return int(size.get("height", edge)), int(size.get("width", edge))


def _resize_of_transformers(size: Mapping[str, Any], processor: Mapping[str, Any]) -> tuple[int | Size, Size | None]:
    """What is resized to, and what is cut from it.

    ConvNeXT's processor cuts below 384 pixels and squashes from there on; LeViT's resizes to 256/224 of what it says;
    the others do as ``size`` says.
    """
    height, width = _exact(size)
    if "shortest_edge" not in size:
        return (height, width), None
    crop_pct = processor.get("crop_pct")
    if str(processor.get("image_processor_type")).startswith("Levit"):
        return int(256 / 224 * height), None
    if crop_pct is None:
        return height, None
    return (int(height / crop_pct), (height, height)) if height < 384 else ((height, height), None)


def _normalization_of_transformers(processor: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for images in [0, 1].

    Theirs is (factor x - mean) / std of x in [0, 255], so of ours both are divided by 255 factor, which is mostly 1.
    EfficientNet's may subtract 1 before (``rescale_offset``), and divides by std once more (``include_top``).
    """
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    normalized = processor.get("do_normalize", True)
    mean, std = (_values(processor.get(name)) if normalized else () for name in ("image_mean", "image_std"))
    if processor.get("include_top"):
        own = _values(processor.get("image_std"))
        std = tuple(value * again for value, again in zip(std or (1.0,) * len(own), own, strict=True))
    return tuple((value + offset) / scale for value in mean or (0.0,)), tuple(value / scale for value in std or (1.0,))


def _values(given: Any) -> tuple[float, ...]:
    """One number for all channels, or one for each, as a tuple."""
    return () if given is None else (float(given),) if isinstance(given, int | float) else tuple(map(float, given))


# --- by hand -----------------------------------------------------------------------------------------------------


def preprocessing_of(
    describe: Callable[[], Preprocessing], wanted: PreprocessingConfig, in_channels: int = 3
) -> Preprocessing:
    """What ``describe`` says, with what the user set in its place; the user's alone where that is complete.

    Args:
        describe: reads a library's or a folder's own description.
        wanted: by the user.
        in_channels: that the network takes.

    Raises:
        UserError: as ``describe`` and ``adjusted``.
    """
    try:
        own = describe()
    except UserError:
        if not ((wanted.resize or wanted.crop) and wanted.mean and wanted.std):
            raise
        own = Preprocessing(in_channels)
    return adjusted(own, wanted)


def adjusted(own: Preprocessing, wanted: PreprocessingConfig) -> Preprocessing:
    """``own`` with the settings that aren't empty in its place.

    Raises:
        UserError: a crop that is larger than what it is cut from, or values for another number of channels.
    """
    resize, crop = own.resize, own.crop
    if wanted.resize:
        resize = wanted.resize[0] if len(wanted.resize) == 1 else (wanted.resize[0], wanted.resize[1])
        # A crop of the library's size would add borders to an image of the user's
        crop = crop if isinstance(resize, int) else None
    if wanted.crop:
        crop = (wanted.crop[0], wanted.crop[-1])
    found = replace(
        own, resize=resize, crop=crop, mean=wanted.mean or own.mean, std=wanted.std or own.std,
        interpolation=own.interpolation if wanted.interpolation == "auto" else wanted.interpolation,
    )  # fmt: skip
    sides = (resize, resize) if isinstance(resize, int) else resize
    if (wanted.resize or wanted.crop) and sides and crop and (crop[0] > sides[0] or crop[1] > sides[1]):
        raise UserError(
            f"expected a crop within what images are resized to, got {found.describe()}; set both resize and crop in "
            "teacher_preprocessing"
        )
    return found


# --- to compare transforms ---------------------------------------------------------------------------------------


def probe_images(num: int = 8, size: Size = (288, 352)) -> Tensor:
    """Images (num, 3, height, width) in [0, 1], in 8 bits, with edges and texture, to compare transforms on."""
    generator = torch.Generator().manual_seed(0)
    # Coarse colors made smooth, as photographs are: on plain noise every resize averages to gray, and transforms that
    # differ in filter or crop would look alike. A little grain and a hard edge on top show what antialiasing does.
    coarse = torch.rand(num, 3, 9, 11, generator=generator)
    images = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
    images = images + 0.1 * torch.randn(num, 1, *size, generator=generator)
    images[:, :, size[0] // 3 : size[0] // 2, size[1] // 4 :] = coarse[:, :, :1, :1]
    return images.clamp(0, 1).mul(255).round().div(255)  # a picture file holds 8 bits
