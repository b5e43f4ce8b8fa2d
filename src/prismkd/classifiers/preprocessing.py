"""What a network wants of an image, as data, applied with differentiable tensor operations.

Stock transforms work on 8-bit pictures; here the same happens on tensors, so that guidance has a gradient. After a
resize the values are rounded to 8 bits as theirs are, and the gradient passes as if they weren't.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import rgb_to_grayscale

from prismkd.errors import UserError

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Preprocessing:
    """From images (batch, channels, height, width) in [0, 1] to a network's input.

    Attributes:
        in_channels: 1 (grey) or 3 (color); images of the other kind are converted.
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
            raise UserError(f"expected interpolation {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}; use one")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.in_channels):
                raise UserError(
                    f"expected {name} with a value for each of {self.in_channels} channels, got {len(values)}; mend it"
                )

    def __call__(self, images: Tensor) -> Tensor:
        """Differentiable with respect to ``images``."""
        images = _with_channels(images, self.in_channels)
        size = self.resized(images.shape[-2], images.shape[-1])
        if size != images.shape[-2:]:
            images = _resize(images, size, self.interpolation)
        if self.crop is not None and self.crop != images.shape[-2:]:
            images = _crop(images, self.crop, floor=self.floor_crop)
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def resized(self, height: int, width: int) -> Size:
        """The size that an image has after resizing."""
        if self.resize is None:
            return height, width
        if not isinstance(self.resize, int):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def describe(self) -> str:
        """In words."""
        resize, crop = self.resize, self.crop
        if isinstance(resize, int):
            steps = [f"shorter side to {resize} ({self.interpolation})"]
        else:
            steps = [f"to {resize[0]} x {resize[1]} ({self.interpolation})"] if resize else ["any size"]
        steps += [f"center {crop[0]} x {crop[1]}"] if crop else []
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        kind = "grey" if self.in_channels == 1 else f"{self.in_channels} channels"
        return ", ".join([kind, *steps, f"mean {mean}", f"std {std}"])


def _with_channels(images: Tensor, in_channels: int) -> Tensor:
    if images.shape[1] == in_channels:
        return images
    return rgb_to_grayscale(images) if in_channels == 1 else images[:, :1].repeat(1, in_channels, 1, 1)


def _resize(images: Tensor, size: Size, interpolation: str) -> Tensor:
    """Width, then height, each rounded to 8 bits: so do Pillow and torchvision."""
    if interpolation == "nearest":
        return F.interpolate(images, size, mode="nearest-exact")
    for step in ((images.shape[-2], size[1]), size):
        if step != images.shape[-2:]:
            images = F.interpolate(images, step, mode=interpolation, antialias=True, align_corners=False).clamp(0, 1)
            images = images + (images.detach().mul(255).add(0.5).floor().div(255) - images.detach())
    return images


def _crop(images: Tensor, size: Size, *, floor: bool) -> Tensor:
    """The center; where a side is shorter than that, zeros around it."""
    short = [max(0, wanted - found) for wanted, found in zip(size, images.shape[-2:], strict=True)]
    if any(short):
        images = F.pad(images, [short[1] // 2, (short[1] + 1) // 2, short[0] // 2, (short[0] + 1) // 2])
    spare = [found - wanted for wanted, found in zip(size, images.shape[-2:], strict=True)]
    top, left = (number // 2 if floor else round(number / 2) for number in spare)
    return images[..., top : top + size[0], left : left + size[1]]


# --- from other libraries' descriptions --------------------------------------------------------------------------


def from_config(config: Mapping[str, Any]) -> Preprocessing:
    """Our own words, as in a classifier folder's ``config.json``; ``input_size`` alone means an exact square."""
    size = config.get("input_size")
    resize, crop = config.get("resize", (size, size) if size else None), config.get("crop")
    return Preprocessing(
        in_channels=config.get("in_channels", 3),
        resize=resize if resize is None or isinstance(resize, int) else (int(resize[0]), int(resize[1])),
        crop=None if crop is None else (int(crop[0]), int(crop[1])),
        interpolation=config.get("interpolation", "bilinear"),
        mean=tuple(config.get("mean", [0.0])),
        std=tuple(config.get("std", [1.0])),
        floor_crop=config.get("floor_crop", False),
    )


def to_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """The inverse of ``from_config``."""
    resize, crop = preprocessing.resize, preprocessing.crop
    found: dict[str, Any] = {"in_channels": preprocessing.in_channels, "interpolation": preprocessing.interpolation,
                             "mean": list(preprocessing.mean), "std": list(preprocessing.std)}  # fmt: skip
    found |= {"floor_crop": True} if preprocessing.floor_crop else {}
    found |= {} if resize is None else {"resize": resize if isinstance(resize, int) else list(resize)}
    return found | ({} if crop is None else {"crop": list(crop)})


def from_timm(pretrained_cfg: Mapping[str, Any]) -> Preprocessing:
    """timm's evaluation transform, from a model's ``pretrained_cfg``.

    Raises:
        UserError: the crop mode is ``border``.
    """
    from timm.data import resolve_data_config

    found = resolve_data_config(pretrained_cfg=dict(pretrained_cfg))
    channels, height, width = found["input_size"]
    if found["crop_mode"] == "border":
        raise UserError("expected timm's crop mode center or squash, got border; describe the teacher in a config.json")
    scaled = (math.floor(height / found["crop_pct"]), math.floor(width / found["crop_pct"]))
    exact = found["crop_mode"] == "squash" or height != width
    return Preprocessing(channels, scaled if exact else scaled[0], (height, width), found["interpolation"],
                         tuple(found["mean"]), tuple(found["std"]))  # fmt: skip


def from_torchvision(preset: Any) -> Preprocessing:
    """torchvision's ``ImageClassification`` preset, as ``weights.transforms()`` gives it."""
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    return Preprocessing(3, resize, (crop, crop), preset.interpolation.value, tuple(preset.mean), tuple(preset.std))


def from_transformers(processor: Mapping[str, Any]) -> Preprocessing:
    """A ``preprocessor_config.json`` of transformers, or an image processor's ``to_dict()``.

    Raises:
        UserError: it does what isn't known here, such as padding.
    """
    size, crop = processor.get("size") or {}, processor.get("crop_size") or {}
    size = {"height": size, "width": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if processor.get("do_pad"):
        raise UserError("expected an image processor that resizes, crops and normalizes, got one that pads; write a "
                        "config.json with resize, crop, mean and std")  # fmt: skip
    resize = crop_to = None
    if processor.get("do_resize", True) and size:
        resize, crop_to = _resize_of_transformers(size, processor.get("crop_pct"))
    if processor.get("do_center_crop") and crop:
        crop_to = (crop["height"], crop["width"])
    normalized, names = processor.get("do_normalize", True), {0: "nearest", 2: "bilinear", 3: "bicubic"}
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    mean, std = (processor.get(name) if normalized else None for name in ("image_mean", "image_std"))
    return Preprocessing(
        3, resize, crop_to, names.get(int(processor.get("resample", 2)), "bilinear"),
        tuple(value / scale for value in mean or [0.0]), tuple(value / scale for value in std or [1.0]), True,
    )  # fmt: skip


def _resize_of_transformers(size: Mapping[str, Any], crop_pct: float | None) -> tuple[int | Size, Size | None]:
    """ConvNeXT's processor crops below 384 pixels and squeezes from there on; the others do as ``size`` says."""
    if not size.get("shortest_edge"):
        return (size["height"], size["width"]), None
    edge = int(size["shortest_edge"])
    if crop_pct is None:
        return edge, None
    return (int(edge / crop_pct), (edge, edge)) if edge < 384 else ((edge, edge), None)


def probe_images(num: int = 8, size: Size = (288, 352)) -> Tensor:
    """Images (num, 3, height, width) in [0, 1], in 8 bits, with edges and texture, to compare transforms on."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(num, 3, 9, 11, generator=generator)
    images = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
    images = images + 0.1 * torch.randn(num, 1, *size, generator=generator)
    images[:, :, size[0] // 3 : size[0] // 2, size[1] // 4 :] = coarse[:, :, :1, :1]
    return images.clamp(0, 1).mul(255).round().div(255)
