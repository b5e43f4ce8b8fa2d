"""Preprocessing and network as one differentiable function of images in [0, 1]."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from prismkd.classifiers.preprocessing import Preprocessing, from_config, to_config
from prismkd.errors import UserError


class Classifier(nn.Module):
    """Images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes).

    Attributes:
        network: of preprocessed images, to logits or to an object with ``logits`` (as in transformers).
        config: ``num_classes``, and the preprocessing in the words of ``preprocessing.from_config``.
    """

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.num_classes: int = config["num_classes"]
        self.preprocess: Preprocessing = from_config(config)

    @property
    def in_channels(self) -> int:
        """Channels that the network takes: 1 (grey) or 3 (color)."""
        return self.preprocess.in_channels

    @property
    def input_size(self) -> int | None:
        """The side that images should have at least; None: the network takes any."""
        resize = self.preprocess.resize or self.preprocess.crop
        return resize if resize is None or isinstance(resize, int) else max(resize)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (batch, num_classes).

        Args:
            images: (batch, channels, height, width) in [0, 1].
            labels: what the images were drawn to show, where that is known: classes (batch,), or shares of them
                (batch, num_classes). One teacher answers the same without; of several, those who know the class answer.
        """
        found = self.network(self.preprocess(images))
        return getattr(found, "logits", found)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features (batch, width): what the last layer sees."""
        network = cast(Any, self.network)
        if hasattr(network, "forward_head"):
            return network.forward_head(network.forward_features(self.preprocess(images)), pre_logits=True)
        return self._seen_by_head(images)

    def _seen_by_head(self, images: Tensor) -> Tensor:
        seen = list[Tensor]()
        handle = self.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self(images)
        finally:
            handle.remove()
        return seen[-1].flatten(1)

    @property
    def head(self) -> nn.Linear:
        """The last layer, features (batch, width) to logits (batch, classes).

        Raises:
            UserError: the network doesn't end in a linear layer.
        """
        network = cast(Any, self.network)
        heads = [network.get_classifier()] if hasattr(network, "get_classifier") else list(network.modules())[::-1]
        head = next((module for module in heads if isinstance(module, nn.Linear)), heads[0])
        if not isinstance(head, nn.Linear) or head.out_features != self.num_classes:
            raise UserError(
                f"expected a teacher that ends in a linear layer, got {type(head).__name__}; "
                "set guidance.prototype_weight and guidance.react_quantile to their defaults"
            )
        return head


def as_teacher(network: nn.Module, num_classes: int, preprocessing: Preprocessing) -> Classifier:
    """A user's own network as a teacher.

    Args:
        network: of images as ``preprocessing`` gives them, to logits (batch, num_classes) or an object with ``logits``.
        num_classes: of the class list.
        preprocessing: from images (batch, channels, height, width) in [0, 1] to the network's input.

    Raises:
        UserError: it is in training mode, in half precision on a CPU, or has another number of outputs.
    """
    if any(module.training for module in network.modules()):
        raise UserError("expected a teacher in evaluation mode, got one in training mode; call teacher.eval()")
    half = next((p for p in network.parameters() if p.device.type == "cpu" and p.dtype == torch.float16), None)
    if half is not None:
        raise UserError("expected a teacher in float32 on a CPU, got float16; call teacher.float()")
    teacher = Classifier(network, {"num_classes": num_classes, **to_config(preprocessing)})
    teacher.requires_grad_(False)
    check_outputs(teacher, "the teacher")
    return teacher


@torch.no_grad()
def check_outputs(classifier: Classifier, what: str) -> None:
    """Show it one grey image.

    Raises:
        UserError: it fails on it, or its answer isn't (1, num_classes) finite logits.
    """
    size = classifier.preprocess.crop or (32, 32)
    parameter = next(classifier.parameters(), torch.empty(0))
    image = torch.full((1, classifier.in_channels, *size), 0.5, device=parameter.device)
    wanted = (1, classifier.num_classes)
    try:
        logits = classifier(image)
    except UserError:
        raise
    except Exception as error:  # a model's own errors have no common type
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UserError(
            f"expected {what} to take images {tuple(image.shape)}, got {type(error).__name__}: {reason}; check its "
            "preprocessing"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape != wanted or not bool(logits.isfinite().all()):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        finite = " with values that aren't finite" if found == wanted else ""
        raise UserError(f"expected logits {wanted} of {what}, got {found}{finite}; check its head and the class list")
