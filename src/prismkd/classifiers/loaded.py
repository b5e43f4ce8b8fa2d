"""A classifier as a library gives it: ready for use, with the library's own transform to compare ours with."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prismkd.classifiers.classifier import Classifier
from prismkd.classifiers.preprocessing import Preprocessing, to_config
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError
from prismkd.foreign import opening, stays_offline

Transform = Callable[[Any], Tensor]  # a PIL image to the network's input (channels, height, width)
AS_IT_IS = PreprocessingConfig()  # nothing is set by hand


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier and how it came to be.

    Attributes:
        classifier: ready for use.
        stock_transform: the library's own; None where it has none, or where the user set another preprocessing.
        notes: what its owner should know, a sentence each.
    """

    classifier: Classifier
    stock_transform: Transform | None = None
    notes: tuple[str, ...] = ()


def ready(network: nn.Module, num_classes: int, preprocessing: Preprocessing) -> Classifier:
    """A library's network ready for use: float32, evaluation mode, and no gradients for its weights."""
    config = {"num_classes": num_classes, **to_config(preprocessing)}
    return Classifier(network.float(), config).eval().requires_grad_(False)


def transform_of(stock: Transform, in_channels: int) -> Transform:
    """A library's transform of any picture, which it expects in the colors that the network takes."""
    mode = "L" if in_channels == 1 else "RGB"
    return lambda picture: stock(picture.convert(mode))


def num_outputs(state: Mapping[str, Tensor], head: Any) -> int | None:
    """How many outputs the weights of a model's last layer have; None where they aren't in ``state``.

    ``head`` is the layer's name, or several of distilled models, as timm's ``pretrained_cfg`` has it. A checkpoint of
    a fine-tuned model has another number of classes than the model's default.
    """
    names = [head] if isinstance(head, str) else list(head or [])
    found = [weight for name in names if (weight := weight_of(state, name)) is not None and weight.ndim]
    return found[0].shape[0] if found else None


def weight_of(state: Mapping[str, Tensor], layer: str) -> Tensor | None:
    """The weights of a layer, whose name may have that of a module before it of which the network is a part."""
    full = f"{layer}.weight"
    return next((state[name] for name in state if name == full or name.endswith(f".{full}")), None)


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that isn't known, and offer near ones."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise UserError(f"expected {what}, got {name!r}; perhaps {', '.join(near) or 'look at its list of models'}")


def from_hub(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """What ``create`` makes, which may fetch weights. Raises UserError where it can't, or may not."""
    what, remedy = f"pretrained weights of {name} from the web", f"give a local file as {name}@FILE"
    with opening(what, remedy, local=stays_offline()):  # which torchvision and timm's plain addresses don't heed
        return create()


def preprocessing_is_the_librarys(checkpoint: Path, whose: str, preprocessing: Preprocessing, others: str = "") -> str:
    """The note for weights that come without a preprocessing.

    Args:
        checkpoint: their file.
        whose: preprocessing serves instead, such as ``timm's own for resnet50``.
        preprocessing: that one.
        others: what else there would be.
    """
    return (
        f"the preprocessing is {whose}, not one of {checkpoint}, which has none: {preprocessing.describe()}{others}; "
        "if its training had another, set teacher_preprocessing"
    )


def check_single_label(problem: Any, path: str) -> None:
    """Refuse a classifier of several labels per image: a softmax over its outputs would mean nothing."""
    if problem not in (None, "single_label_classification"):
        raise UserError(
            f"expected a teacher with one label per image, got {path} with problem_type {str(problem)[:60]}; train a "
            "softmax classifier of these classes, or name another teacher"
        )
