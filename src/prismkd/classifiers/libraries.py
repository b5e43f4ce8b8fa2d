"""Classifiers of torchvision by name, and programs that a user trusts."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.classifiers.checkpoint import load_weights, part_for, read_checkpoint
from prismkd.classifiers.classifier import Classifier
from prismkd.classifiers.loaded import (
    AS_IT_IS,
    LoadedClassifier,
    check_name,
    from_hub,
    num_outputs,
    preprocessing_is_the_librarys,
    ready,
    transform_of,
)
from prismkd.classifiers.preprocessing import (
    SET_BY_HAND,
    adjusted,
    from_config,
    from_torchvision,
    preprocessing_of,
    to_config,
)
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError
from prismkd.foreign import Budget, opening, read_description

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def load_torchvision(name: str, checkpoint: Path | None, wanted: PreprocessingConfig = AS_IT_IS) -> LoadedClassifier:
    """A torchvision model with the weights in ``checkpoint``, else its default ones from the web.

    Args:
        name: of torchvision's list of classifiers.
        checkpoint: a file with weights; where it holds the arguments of its training, its images are prepared as
            torchvision's reference script did it for its validation.
        wanted: preprocessing that the user set.

    Raises:
        UserError: no such model, or the weights aren't there or don't fit.
    """
    from torchvision import models

    check_name("a torchvision classifier", name, models.list_models(module=models))
    weights = models.get_model_weights(name).DEFAULT
    if checkpoint is None:
        network = from_hub(name, lambda: models.get_model(name, weights=weights))
        return _loaded(network, weights.transforms(), wanted)
    read = read_checkpoint(checkpoint)
    network, side = _network_for(name, read.state)
    state, notes = part_for(network, read.state, checkpoint)
    load_weights(network, state, f"torchvision's {name} in {checkpoint}")
    # Weights of another size than the default's were made for a preset of that size
    weights = next((other for other in type(weights) if side in other.transforms().crop_size), weights)
    own = _of_training(read.arguments, weights.transforms())
    if wanted == AS_IT_IS and own is None and side and side not in weights.transforms().crop_size:
        raise UserError(
            f"expected images of {side} pixels for the network in {checkpoint}, got no preset of torchvision's {name} "
            f"of that size; {SET_BY_HAND}"
        )
    notes = (*read.notes, *notes)
    if wanted == AS_IT_IS and own is None:
        whose, preprocessing = f"that of torchvision's {weights}", from_torchvision(weights.transforms())
        notes += (preprocessing_is_the_librarys(checkpoint, whose, preprocessing, _others(weights)),)
    return _loaded(network, own or weights.transforms(), wanted, notes)


def load_program(kind: str, path: Path, *, trust: bool, wanted: PreprocessingConfig = AS_IT_IS) -> LoadedClassifier:
    """A whole program, ``exported`` (.pt2 of torch.export) or ``torchscript``; a .json beside it describes its input.

    Raises:
        UserError: without ``trust``, since opening such a file runs code; or the program or its description isn't
            there or can't be opened.
    """
    if not trust:
        raise UserError(
            f"expected --trust for {path}, since a program may run any code when it is opened; give it only for files "
            "whose maker you trust, or save the weights as safetensors"
        )
    description = path.with_suffix(".json")
    if not path.is_file() or not description.is_file():
        raise UserError(
            f"expected {path} and {description} (num_classes, in_channels, input_size, mean, std), got "
            f"{'no program' if not path.is_file() else 'no description'}; check the path"
        )
    config = read_description(description)
    with opening(f"num_classes, in_channels, input_size, mean and std in {description}", "correct them"):
        num_classes, own = operator.index(config["num_classes"]), from_config(config)
    # Here code runs that the user trusts: it may ask and connect as it likes
    with opening(f"a program ({kind}) in {path}", "check the file", local=False):
        program = torch.export.load(path).module() if kind == "exported" else torch.jit.load(path, map_location="cpu")
    digest = hashlib.sha256(path.read_bytes()).digest()
    if wanted != AS_IT_IS:
        config = {"num_classes": num_classes, **to_config(adjusted(own, wanted))}
    return LoadedClassifier(Classifier(_Program(program, digest), config).eval().requires_grad_(False))


class _Program(nn.Module):
    """An exported program as a module. It refuses ``train`` and ``eval``: what it does was decided at its export."""

    def __init__(self, program: Any, digest: bytes) -> None:
        super().__init__()
        self._program = [program]  # in a list, so that torch doesn't look inside
        self.register_buffer("sha256", torch.frombuffer(bytearray(digest), dtype=torch.uint8))  # for ``weights_digest``
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self._program[0](images)


def _loaded(
    network: nn.Module, preset: Any, wanted: PreprocessingConfig, notes: tuple[str, ...] = ()
) -> LoadedClassifier:
    preprocessing = preprocessing_of(lambda: from_torchvision(preset), wanted)
    num_classes = len(network.get_parameter(f"{_head(network)}.weight"))
    transform = transform_of(preset, 3) if wanted == AS_IT_IS else None
    return LoadedClassifier(ready(network, num_classes, preprocessing), transform, notes)


def _head(network: nn.Module) -> str:
    """The name of the layer that gives the logits: the last linear one, or of SqueezeNet the last convolution."""
    for kind in (nn.Linear, nn.Conv2d):
        if names := [name for name, module in network.named_modules() if isinstance(module, kind)]:
            return names[-1]
    raise ValueError(f"{type(network).__name__} has neither linear layers nor convolutions")


def _network_for(name: str, state: Mapping[str, Tensor]) -> tuple[nn.Module, int]:
    """A new network of as many classes as the weights have, and their image size; 0 where it takes any."""
    from torchvision import models

    with torch.device("meta"):  # its layers' names are wanted, and no weights
        head = _head(models.get_model(name, **({"init_weights": False} if name in WITH_AUXILIARY_HEADS else {})))
    outputs = num_outputs(state, head)
    arguments: dict[str, Any] = {"num_classes": outputs} if outputs else {}
    side = 0
    if name in WITH_AUXILIARY_HEADS:  # which networks that were trained from torchvision's weights haven't
        arguments |= {"init_weights": False, "aux_logits": any("aux" in key.lower() for key in state)}
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is not None and positions.ndim == 3 and patches is not None:  # a vision transformer
        side = math.isqrt(positions.shape[1] - 1) * patches.shape[-1]  # a position per patch, and one for the class
        arguments["image_size"] = side
    with opening(f"weights of torchvision's {name}", "check the file", budget=Budget.of_state(state)):
        return models.get_model(name, **arguments), side


def _of_training(arguments: Mapping[str, Any], preset: Any) -> Any:
    """The preset of a validation in torchvision's reference script; None where its arguments aren't known."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    resize, crop = arguments.get("val_resize_size"), arguments.get("val_crop_size")
    interpolation = arguments.get("interpolation", "bilinear")
    if not (isinstance(resize, int) and isinstance(crop, int) and interpolation in ("bilinear", "bicubic", "nearest")):
        return None
    return ImageClassification(resize_size=resize, crop_size=crop, mean=tuple(preset.mean), std=tuple(preset.std),
                               interpolation=InterpolationMode(interpolation))  # fmt: skip


def _others(weights: Any) -> str:
    """The model's other weights that want another preprocessing than these, such as those of version 1."""
    own = from_torchvision(weights.transforms())
    others = {other.name: from_torchvision(other.transforms()) for other in type(weights)}
    return "".join(
        f"; {name} has resize {other.resize}, crop {other.size[0]} and interpolation {other.interpolation}"
        for name, other in others.items() if other != own and other.size
    )  # fmt: skip
