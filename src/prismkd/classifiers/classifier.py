"""Preprocessing and network as one differentiable function of images in [0, 1]: teacher, judge and student are this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prismkd.classifiers.preprocessing import SET_BY_HAND, Preprocessing, from_config, to_config
from prismkd.errors import UserError
from prismkd.memory import BatchSize, in_batches, ran_out_of_memory

PREDICT_BATCH = 512  # images that pass a network together in ``predict``, which bounds the memory
NO_ROOM = "free memory, use a machine or a device that has more, or take a smaller network"
_batch_sizes = WeakKeyDictionary[nn.Module, BatchSize]()  # what was found out about each network's hunger


class Classifier(nn.Module):
    """Images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes).

    Attributes:
        network: of preprocessed images, to logits or to an object with ``logits`` (as in transformers).
        config: ``num_classes``, and the preprocessing in the words of ``preprocessing.from_config``.
        preprocess: from such images to the network's input, differentiable: guidance needs the gradient by the image,
            and whoever loads a classifier can't forget its normalization.
    """

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.num_classes: int = config["num_classes"]
        self.preprocess: Preprocessing = from_config(config)

    @property
    def in_channels(self) -> int:
        """Channels that the network takes: 1 (gray) or 3 (color)."""
        return self.preprocess.in_channels

    @property
    def input_size(self) -> int | None:
        """The side in pixels that images should have at least; None: the network takes any size."""
        resize = self.preprocess.resize or self.preprocess.crop
        return resize if resize is None or isinstance(resize, int) else max(resize)

    def forward(self, images: Tensor, labels: Tensor | None = None, *, cropped: bool = False) -> Tensor:
        """Logits (batch, num_classes).

        Args:
            images: (batch, channels, height, width) in [0, 1].
            labels: what the images were drawn to show, where that is known: classes (batch,), or shares of them
                (batch, num_classes). One classifier answers the same without; of several (``Ensemble``), those who
                know the class answer.
            cropped: the images have been resized and cut already (``Preprocessing``).
        """
        output = self.network(self.preprocess(images, cropped=cropped))
        return getattr(output, "logits", output)

    def features(self, images: Tensor, *, cropped: bool = False) -> Tensor:
        """Penultimate features (batch, width): what the last layer gets as input."""
        network = cast(Any, self.network)
        if hasattr(network, "forward_head"):  # timm's interface
            inputs = self.preprocess(images, cropped=cropped)
            return network.forward_head(network.forward_features(inputs), pre_logits=True)
        return self._inputs_of_head(images, cropped=cropped)

    def _inputs_of_head(self, images: Tensor, *, cropped: bool) -> Tensor:
        """For networks of any interface: run the whole network, and record what its last layer gets."""
        recorded = list[Tensor]()
        handle = self.head.register_forward_pre_hook(lambda module, inputs: recorded.append(inputs[0]))
        try:
            self(images, cropped=cropped)
        finally:
            handle.remove()
        return recorded[-1].flatten(1)

    @property
    def head(self) -> nn.Linear:
        """The last layer, features (batch, width) to logits (batch, num_classes).

        Raises:
            UserError: the network doesn't end in a linear layer.
        """
        network = cast(Any, self.network)
        # Without timm's interface it is taken to be the linear layer that is defined last, as in torchvision.
        heads = [network.get_classifier()] if hasattr(network, "get_classifier") else list(network.modules())[::-1]
        head = next((module for module in heads if isinstance(module, nn.Linear)), heads[0])
        if not isinstance(head, nn.Linear) or head.out_features != self.num_classes:
            raise UserError(
                f"expected a teacher that ends in a linear layer, got {type(head).__name__}; "
                "set guidance.diversity_weight to 0, and give the run all of the teacher's classes"
            )
        return head


@torch.no_grad()
def keep_outputs(classifier: Classifier, outputs: Sequence[int]) -> None:
    """Leave a classifier some of its outputs alone, in the order given, as if it had never learned other classes.

    Args:
        classifier: one that ends in a linear layer, which is changed.
        outputs: their numbers.

    Raises:
        UserError: it ends in another layer.
    """
    head, kept = classifier.head, torch.tensor(outputs, device=classifier.head.weight.device)
    head.weight = nn.Parameter(head.weight[kept], requires_grad=False)
    if head.bias is not None:
        head.bias = nn.Parameter(head.bias[kept], requires_grad=False)
    head.out_features = classifier.num_classes = classifier.config["num_classes"] = len(kept)


def as_teacher(network: nn.Module, num_classes: int, preprocessing: Preprocessing) -> Classifier:
    """A user's own network as a teacher.

    Args:
        network: of images as ``preprocessing`` gives them, to logits (batch, num_classes) or an object with ``logits``.
        num_classes: of the class list.
        preprocessing: from images (batch, channels, height, width) in [0, 1] to the network's input.

    Raises:
        UserError: it is in training mode, in half precision on a CPU, or has another number of outputs.
    """
    # In training mode batch norm would take its statistics from the images that are being guided, and learn from them.
    if any(module.training for module in network.modules()):
        raise UserError("expected a teacher in evaluation mode, got one in training mode; call teacher.eval()")
    # float16 isn't cast here: the network is the user's, who may be using it elsewhere.
    half = next((p for p in network.parameters() if p.device.type == "cpu" and p.dtype == torch.float16), None)
    if half is not None:
        raise UserError("expected a teacher in float32 on a CPU, got float16; call teacher.float()")
    teacher = Classifier(network, {"num_classes": num_classes, **to_config(preprocessing)})
    teacher.requires_grad_(False)
    check_outputs(teacher, "teacher")
    return teacher


@torch.no_grad()
def check_outputs(classifier: Classifier, role: str) -> None:
    """Show a classifier one gray image, so that what doesn't fit is found before anything is drawn.

    Args:
        classifier: any.
        role: teacher, judge or student, for errors.

    Raises:
        UserError: it takes neither gray nor color images, it fails on the image, or its answer isn't (1, num_classes)
            finite logits.
    """
    if classifier.in_channels not in (1, 3):
        raise UserError(
            f"expected a {role} of images in gray (1 channel) or color (3), got one of {classifier.in_channels} "
            "channels; only these can be drawn and read"
        )
    size = classifier.preprocess.crop or (32, 32)
    parameter = next(classifier.parameters(), torch.empty(0))
    image = torch.full((1, classifier.in_channels, *size), 0.5, device=parameter.device)
    logits = answer(classifier, image, role, SET_BY_HAND if role == "teacher" else "check its preprocessing")
    if logits.shape[1] != classifier.num_classes or not bool(logits.isfinite().all()):
        raise UserError(
            f"expected finite logits {(1, classifier.num_classes)} of the {role}, got {tuple(logits.shape)}, finite: "
            f"{bool(logits.isfinite().all())}; check its head and the class list"
        )
    if role.startswith("teacher"):
        check_logits(logits)


def check_logits(logits: Tensor) -> None:
    """Refuse a teacher that gives probabilities: their free energy says nothing of an image.

    Args:
        logits: what it gave, (n, classes).

    Raises:
        UserError: they are probabilities, or logarithms of such.
    """
    for kind, values in (("probabilities", logits), ("logarithms of probabilities", logits.exp())):
        are_shares = bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < 1e-5).all())
        if logits.shape[1] > 1 and are_shares:
            raise UserError(f"expected logits of the teacher, got {kind}; take the softmax off its end")


@torch.no_grad()
def answer(network: nn.Module, images: Tensor, role: str, remedy: str) -> Tensor:
    """A network's logits (n, classes), in evaluation mode, of images (n, channels, height, width) that may not fit it.

    Args:
        network: any.
        images: to be shown.
        role: teacher, judge or student, for errors.
        remedy: what to do where it doesn't take them.

    Raises:
        UserError: it fails on them, or what it answers isn't (n, any number).
    """
    try:
        with evaluating(network):
            output = network(images)
            logits = getattr(output, "logits", output)
    except UserError:
        raise
    except Exception as error:  # a model's own errors have no common type
        if ran_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"expected a {role} that takes images {tuple(images.shape)}, got {type(error).__name__}: {reason}; {remedy}"
        ) from None
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"expected logits ({len(images)}, classes) of the {role}, got {got}; check its last layer")
    return logits


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, *, cropped: bool = False) -> Tensor:
    """Logits (n, num_classes) of any number of images (n, channels, height, width) on the network's device.

    The network is in evaluation mode for it, and afterwards in the mode that it was in. ``cropped`` is for a
    ``Classifier`` whose images have been resized and cut already.
    """
    options = {"cropped": True} if cropped else {}  # other modules take images alone
    with evaluating(network):
        return _looked_at(network, images, lambda batch: network(batch, **options))


def features_of(classifier: Classifier, images: Tensor, *, cropped: bool = False) -> Tensor:
    """Penultimate features (n, width) of any number of images (n, channels, height, width), as of ``predict``."""
    return _looked_at(classifier, images, lambda batch: classifier.features(batch, cropped=cropped).flatten(1))


def _looked_at(network: nn.Module, images: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``look`` gives of the images; where memory runs out they are shown in smaller batches, from now on."""
    if not len(images):
        return look(images)
    sizes = _batch_sizes.setdefault(network, BatchSize(PREDICT_BATCH))
    batches = in_batches(len(images), sizes, lambda batch: look(images[batch]), NO_ROOM)
    return torch.cat([outcome for _, outcome in batches])


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """While active the network is in evaluation mode; afterwards each of its modules is in the mode that it was in."""
    # Not network.train(before): a wrapper in training mode around a frozen network would put that in training, too.
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def count_parameters(network: nn.Module) -> int:
    """Number of values in all parameters, frozen ones included; buffers such as running statistics aren't."""
    return sum(parameter.numel() for parameter in network.parameters())
