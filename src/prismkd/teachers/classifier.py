"""A classifier folder (``config.json`` + ``model.safetensors``) as one differentiable function of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from prismkd.assets import asset
from prismkd.errors import UserError
from prismkd.students import new_network


class Classifier(nn.Module):
    """Preprocessing and network in one: images (batch, channels, height, width) in [0, 1] to logits.

    The preprocessing (channels, size, normalization) is made of differentiable tensor operations, so that
    guidance can take gradients with respect to the image.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.num_classes: int = config["num_classes"]
        self.in_channels: int = config.get("in_channels", 3)
        self.input_size: int | None = config.get("input_size")
        self.register_buffer("mean", torch.tensor(config.get("mean", [0.0])).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.get("std", [1.0])).view(1, -1, 1, 1))

    def preprocess(self, images: Tensor) -> Tensor:
        """Match the network's channels, size and normalization."""
        if images.shape[1] != self.in_channels:
            images = images.mean(dim=1, keepdim=True) if self.in_channels == 1 else images.repeat(1, 3, 1, 1)
        if self.input_size is not None and images.shape[-1] != self.input_size:
            size = (self.input_size, self.input_size)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.preprocess(images))

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features (batch, width): what the last layer sees."""
        network = cast(Any, self.network)
        return network.forward_head(network.forward_features(self.preprocess(images)), pre_logits=True)

    @property
    def head(self) -> nn.Linear:
        """The last layer, features (batch, width) to logits (batch, classes).

        Raises:
            UserError: the network doesn't end in a linear layer.
        """
        head = cast(Any, self.network).get_classifier()
        if not isinstance(head, nn.Linear):
            raise UserError(
                f"expected a teacher that ends in a linear layer, got {type(head).__name__}; "
                "set guidance.prototype_weight and guidance.react_quantile to their defaults"
            )
        return head


def save_classifier(folder: Path, network: nn.Module, config: dict[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors`` (fp16) so that ``load_classifier`` finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def load_classifier(folder: Path) -> Classifier:
    """Load a classifier folder, in evaluation mode and without gradients for its weights.

    Raises:
        UserError: a file is missing, isn't what its name says, or the weights don't fit the architecture.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"expected a classifier folder with {name}, got {folder}; check the path")
    try:
        config = json.loads((folder / "config.json").read_text())
        architecture, num_classes = config["architecture"], config["num_classes"]
    except (ValueError, KeyError) as error:
        raise UserError(f"expected {folder / 'config.json'} with architecture and num_classes, got {error}") from None
    config = {**_from_timm(config), **config}
    arguments = {"in_channels": config.get("in_channels", 3), **config.get("arguments", {})}
    network = new_network(architecture, num_classes, **arguments)
    try:
        state = load_file(folder / "model.safetensors")
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except Exception as error:  # safetensors raises its own untyped errors for damaged files
        reason = str(error).splitlines()[0]
        raise UserError(
            f"expected weights of {architecture} in {folder / 'model.safetensors'}, got: {reason}"
        ) from None
    return Classifier(network, config).eval().requires_grad_(False)


def _from_timm(config: dict[str, Any]) -> dict[str, Any]:
    """Preprocessing and arguments of a folder that timm's ``save_for_hf`` wrote, in our words."""
    given = config.get("pretrained_cfg")
    if not isinstance(given, dict):
        return {}
    channels, *sizes = given.get("input_size", (3, None))
    found = {"in_channels": channels, "input_size": sizes[-1], "mean": list(given.get("mean", [0.0])),
             "std": list(given.get("std", [1.0]))}  # fmt: skip
    return found | ({"arguments": config["model_args"]} if config.get("model_args") else {})


def load_teacher(source: str, class_names: list[str]) -> Classifier:
    """Load the teacher and check that it has one output per class name."""
    return _load_fitting("teacher", "teacher", source, len(class_names))


def load_judge(source: str, num_classes: int) -> Classifier:
    """Load the judge and check that it has ``num_classes`` outputs."""
    return _load_fitting("judge", "evaluation.judge", source, num_classes)


def teacher_folder(source: str) -> Path:
    """Where the teacher's files are."""
    return asset("teacher") if source == "pictograms" else Path(source)


def _load_fitting(name: str, setting: str, source: str, num_classes: int) -> Classifier:
    classifier = load_classifier(asset(name) if source == "pictograms" else Path(source))
    if classifier.num_classes != num_classes:
        raise UserError(
            f"expected a class list with {classifier.num_classes} names, one per output of the {name}, "
            f"got {num_classes}; make `classes` and `{setting}` fit each other"
        )
    return classifier
