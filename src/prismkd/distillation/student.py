"""A new student: untrained, or from the weights of another network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from prismkd.classifiers.checkpoint import load_weights, read_state_dict
from prismkd.classifiers.classifier import Classifier, answer
from prismkd.classifiers.networks import new_network, size_arguments
from prismkd.config import DistillationConfig
from prismkd.config.seeds import derive
from prismkd.errors import UserError, warn
from prismkd.foreign import opening

Factory = Callable[[], nn.Module]  # of networks from images (batch, channels, height, width) in [0, 1] to logits


def new_student(
    config: DistillationConfig, num_classes: int, in_channels: int, seed: int, factory: Factory | None = None,
    side: int | None = None,
) -> nn.Module:  # fmt: skip
    """A student to train; the same seed gives the same initial weights for every method.

    With a ``factory``, it is what that makes. ``side`` is that of its images in pixels, where it is known.

    Raises:
        UserError: no such architecture, none of that size, or ``config.initial`` doesn't fit it.
    """
    with torch.random.fork_rng():
        # From the run's seed and nothing else: methods are compared from the same first weights.
        torch.manual_seed(derive(seed, "student"))
        student = factory() if factory else _of_size(config.architecture, num_classes, in_channels, side)
    if config.initial:
        start_from(student, initial_weights(config.initial), config.initial)
    return student


def _of_size(architecture: str, num_classes: int, in_channels: int, side: int | None) -> nn.Module:
    """A new network for images of ``side`` pixels."""
    arguments = size_arguments(architecture, side)
    # What a network of timm's takes is known to itself alone
    with opening(
        f"a student {architecture} for images of {side} pixels",
        "choose another distillation.architecture or image_size",
    ):
        return new_network(architecture, num_classes, in_channels, **arguments)


def name_of_module(factory: Factory) -> str:
    """What stands for a user's own network as ``config.architecture``: its class, and a digest of its weights' shapes.

    Raises:
        UserError: it makes no networks, or the same one again and again.
    """
    with torch.random.fork_rng():
        # Twice, since one that returns the same module would train a single student for all methods and seeds.
        first, second = factory(), factory()
    if not isinstance(first, nn.Module) or first is second:
        got = "the same one twice" if first is second else type(first).__name__
        raise UserError(f"expected a function that makes a new student at each call, got {got}; build it inside")
    shapes = [(name, tuple(tensor.shape)) for name, tensor in first.state_dict().items()]
    return f"module {type(first).__name__} {hashlib.sha256(repr(shapes).encode()).hexdigest()[:8]}"


def check_student(student: nn.Module, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Show a new student two black images (channels, height, width).

    Raises:
        UserError: it fails on them, or its answer isn't (2, num_classes) logits.
    """
    remedy = "choose another distillation.architecture or image_size"
    logits = answer(student, torch.zeros(2, *image_shape), "student", remedy)
    if logits.shape[1] != num_classes:
        raise UserError(
            f"expected logits {(2, num_classes)} of the student, got {tuple(logits.shape)}; check its last layer"
        )


def initial_weights(source: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, or in the folder of a student."""
    path = Path(source)
    return read_state_dict(path / "model.safetensors" if path.is_dir() else path)


def start_from(student: nn.Module, weights: dict[str, Tensor], source: str, say: Callable[[str], None] = warn) -> None:
    """Load ``weights``; a last layer of another number of classes stays untrained, and that is said."""
    own = student.state_dict()
    # Only the last layer may differ: any other shape means another architecture, which load_weights refuses.
    foreign = [name for name in _last_layer(student) if name in weights and weights[name].shape != own[name].shape]
    if foreign:
        say(
            f"{source} ends in {len(weights[foreign[0]])} classes and the student in {len(own[foreign[0]])}: its last "
            f"layer ({', '.join(foreign)}) starts untrained"
        )
    load_weights(student, weights | {name: own[name] for name in foreign}, source)


def classifier_of(student: nn.Module) -> nn.Linear:
    """The last layer of a network with timm's interface.

    Raises:
        UserError: there is none.
    """
    found = _head(student)
    if not isinstance(found, nn.Linear):
        raise UserError(
            f"expected a student whose get_classifier() is a linear layer, got {type(student).__name__}; set "
            "distillation.feature_weight to 0 or use a network of timm"
        )
    return found


def _head(student: nn.Module) -> nn.Module | None:
    """What timm's interface calls the classifier; None for a network without that interface."""
    network = student.network if isinstance(student, Classifier) else student
    return cast(Any, network).get_classifier() if hasattr(network, "get_classifier") else None


def _last_layer(student: nn.Module) -> list[str]:
    """Names of the last layer's weights."""
    found = _head(student)
    prefix = next((name for name, module in student.named_modules() if module is found), None)
    return [] if prefix is None else [name for name in student.state_dict() if name.startswith(f"{prefix}.")]
