"""A module of the user's own as a classifier: what may be left unsaid is found out with one gray image."""

from __future__ import annotations

import copy

import torch
from torch import nn

from prismkd.classifiers.classifier import Classifier, answer, check_logits
from prismkd.classifiers.preprocessing import Preprocessing, to_config
from prismkd.errors import UserError


def as_classifier(
    network: nn.Module, image_shape: tuple[int, int, int], preprocessing: Preprocessing | None = None
) -> Classifier:
    """A classifier with fixed weights in float32 on the CPU; the module itself stays as it is.

    Args:
        network: a ``Classifier``, or any module in evaluation mode of images as ``preprocessing`` gives them, to logits
            (batch, num_classes) or an object with ``logits``.
        image_shape: (channels, height, width) of the images that it will see.
        preprocessing: from images (batch, channels, height, width) in [0, 1] to the network's input; None: as they are.

    Raises:
        UserError: it is in training mode, it is a ``Classifier``, which has a preprocessing already, or it doesn't
            answer one gray image with finite logits.
    """
    if isinstance(network, Classifier) and preprocessing is not None:
        raise UserError("expected no preprocessing for a Classifier, which has its own, got one; leave it out")
    if any(module.training for module in network.modules()):
        raise UserError("expected a teacher in evaluation mode, got one in training mode; call teacher.eval()")
    network = _fixed(network)
    if isinstance(network, Classifier):
        return network
    config = to_config(preprocessing or Preprocessing(in_channels=image_shape[0]))
    num_classes = _num_outputs(Classifier(network, {"num_classes": 0, **config}), image_shape)
    return Classifier(network, {"num_classes": num_classes, **config}).eval()


def _fixed(network: nn.Module) -> nn.Module:
    """The network if its weights are fixed, in float32 and on the CPU; else a copy of it of which that is true."""
    tensors = [*network.parameters(), *network.buffers()]
    if all(
        tensor.device.type == "cpu" and not tensor.requires_grad
        and (tensor.dtype == torch.float32 or not tensor.is_floating_point()) for tensor in tensors
    ):  # fmt: skip
        return network
    return copy.deepcopy(network).cpu().float().requires_grad_(False)


def _num_outputs(classifier: Classifier, image_shape: tuple[int, int, int]) -> int:
    logits = answer(classifier, torch.full((1, *image_shape), 0.5), "teacher", "give its preprocessing")
    if not bool(logits.isfinite().all()):
        raise UserError("expected finite logits of the teacher, got others; check its weights and preprocessing")
    check_logits(logits)
    return logits.shape[1]
