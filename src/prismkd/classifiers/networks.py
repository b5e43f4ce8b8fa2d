"""New, untrained networks: small residual networks for small images, and timm models by name."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from prismkd.errors import UserError
from prismkd.text import shortened

# Arguments of ``timm.create_model`` that name, read or fetch weights, that stand elsewhere in a configuration, or that
# make something else than a classifier. The others shape the network.
NOT_OF_THE_SHAPE = {
    "num_classes", "in_chans", "in_channels", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "pretrained_strict", "pretrained_filter_fn", "checkpoint_path", "cache_dir", "model_name", "architecture",
    "scriptable", "exportable", "no_jit", "features_only", "feature_cfg", "feature_cls", "out_indices", "kwargs_filter",
    "model_cfg",
}  # fmt: skip
SMALL = re.compile(r"small-resnet-([1-9]\d*)(?:x([1-9]\d*))?")
MAX_ARGUMENT = 2**16  # layers, channels or pixels


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a shortcut (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(out)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A residual network for small images: three stages of ``width``, 2 and 4 times ``width`` channels.

    Takes images (batch, channels, height, width) in [0, 1] and returns logits (batch, num_classes). It has the methods
    of timm's models (``forward_features``, ``forward_head``, ``get_classifier``), so that whoever needs features or
    the last layer finds them in the same way.
    """

    def __init__(
        self, num_classes: int, width: int, in_channels: int = 1, blocks_per_stage: int = 1, num_halvings: int = 1
    ) -> None:
        """Untrained.

        Args:
            num_classes: number of logits.
            width: channels of the first stage.
            in_channels: of the images.
            blocks_per_stage: residual blocks of each stage.
            num_halvings: how often the stem halves the side, as ImageNet's does, for speed: once from 32 pixels to 16,
                twice from 64. Stages 2 and 3 halve it again, to 4.
        """
        super().__init__()
        stages: list[nn.Module] = []
        channels = in_channels
        for left in reversed(range(num_halvings)):
            wide = width if not left else max(1, width // 2)
            stages += [nn.Conv2d(channels, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        for stage in range(3):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(ResidualBlock(channels, width << stage, stride))
                channels = width << stage
        self.features = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map (batch, 4 * width, height / 8, width / 8); of 4 x 4 places where the stem fits."""
        return self.features(x * 2 - 1)  # centered here, so that images are in [0, 1] for everyone outside

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature map to logits (batch, num_classes), or to the penultimate features (batch, 4 * width)."""
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Linear:
        """The last layer."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def new_network(architecture: str, num_classes: int, in_channels: int = 1, **arguments: Any) -> nn.Module:
    """Build an untrained network: ``small-resnet-WIDTH[xBLOCKS]``, or timm's model ``NAME`` or ``timm:NAME``.

    Args:
        architecture: the name.
        num_classes: number of logits.
        in_channels: of the images.
        arguments: more, for timm's constructor, or ``num_halvings`` of ours.

    Raises:
        UserError: no such architecture; names of close ones are offered.
    """
    # Ours is for images of 32 or 64 pixels, where most networks of timm have pooled everything away.
    small = SMALL.fullmatch(architecture)
    if small:
        return SmallResNet(num_classes, int(small[1]), in_channels, int(small[2] or 1), **arguments)
    import timm

    architecture = architecture.removeprefix("timm:")
    if architecture not in timm.list_models():
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        raise UserError(
            f"expected an architecture like small-resnet-16 or a timm model name, got {architecture!r}; "
            f"perhaps {', '.join(close) or 'see timm.list_models()'}"
        )
    return timm.create_model(architecture, num_classes=num_classes, in_chans=in_channels, **arguments)


def shape_arguments(arguments: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Of the arguments of a network of timm's in a configuration those that shape it.

    Args:
        arguments: by name.
        source: the file, for errors.

    Raises:
        UserError: one of them is neither a number that a network can have nor a text nor a list of these.
    """
    shaping = {name: value for name, value in arguments.items() if name not in NOT_OF_THE_SHAPE}
    for name, value in shaping.items():
        if not _is_plain(value):
            raise UserError(
                f"expected numbers up to {MAX_ARGUMENT:,}, texts and lists of these as arguments of a network in "
                f"{source}, got {name} = {shortened(value)}; remove it"
            )
    return shaping


def check_timm(architecture: Any, arguments: Any, source: str) -> None:
    """Refuse a network of timm's in a configuration that another library hands to ``timm.create_model`` as it is.

    Raises:
        UserError: no name of a model of timm's, or arguments that don't shape it.
    """
    import timm

    if architecture not in timm.list_models():
        raise UserError(f"expected a model of timm's in {source}, got {shortened(architecture)}; correct architecture")
    if arguments is not None and not isinstance(arguments, dict):
        raise UserError(f"expected model_args of timm's in {source}, got {shortened(arguments)}; correct them")
    if excess := (arguments or {}).keys() - shape_arguments(arguments or {}, source):
        raise UserError(f"expected arguments that shape a network in {source}, got {min(excess)}; remove it")


def _is_plain(value: Any) -> bool:
    """Whether it is a number that a network can have, a text, nothing, or a list of these."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, int | float):
        return abs(value) <= MAX_ARGUMENT
    return value is None or isinstance(value, str)


def size_arguments(architecture: str, side: int | None) -> dict[str, int]:
    """Arguments of ``new_network`` for images of ``side`` pixels; empty where it takes any size, or that one anyway.

    Transformers of timm are built for one size, which stands in their names, and for another where it is named. Our
    small networks halve the side until 16 are left.
    """
    if SMALL.fullmatch(architecture):
        num_halvings = max(1, round(math.log2(side / 16))) if side else 1
        return {} if num_halvings == 1 else {"num_halvings": num_halvings}
    import timm

    name = architecture.removeprefix("timm:")
    traits = timm.models.get_pretrained_cfg(name) if side and timm.models.is_model(name) else None
    if traits is None or not traits.fixed_input_size or traits.input_size[-1] == side:
        return {}
    return {"img_size": side} if side else {}
