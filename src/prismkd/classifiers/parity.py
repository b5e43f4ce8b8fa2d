"""Our preprocessing beside the library's own transform: the logits of a few images after one and after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from prismkd.classifiers.classifier import answer
from prismkd.classifiers.loaded import LoadedClassifier
from prismkd.classifiers.preprocessing import SET_BY_HAND, probe_images
from prismkd.errors import UserError
from prismkd.foreign import opening

TOLERANCE = 1e-2  # largest difference of logits, relative to their spread
ROUNDING = 0.25  # mean difference of the network's input in steps of 8 bits, below which only rounding differs
# One is wider than high, so that what is squashed or cut off shows; 350 leaves odd margins, which libraries halve in
# two ways. None is higher than wide: which side is resized first then depends on the version of Pillow.
SIZES = ((288, 350), (224, 224))


@dataclass(frozen=True)
class Parity:
    """How far logits after our preprocessing are from those after the library's own transform.

    Attributes:
        difference: the largest of all logits'.
        spread: standard deviation of the logits.
        num_same: images with the same top-1 class.
        num_images: all that were shown.
        steps: mean difference of the network's inputs, in steps of 8 bits; infinite where their shapes differ.
    """

    difference: float
    spread: float
    num_same: int
    num_images: int
    steps: float

    @property
    def holds(self) -> bool:
        """Whether they are equal but for rounding; not where a logit isn't finite."""
        return self.difference <= TOLERANCE * self.spread or (self.steps <= ROUNDING and self.difference < torch.inf)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"logits within {self.difference:.2g} of those after the library's own transform (their spread is "
            f"{self.spread:.2g}), top-1 equal on {self.num_same} of {self.num_images}"
        )


@torch.no_grad()
def measure_parity(loaded: LoadedClassifier, num_images: int) -> Parity | None:
    """Show a classifier images after both preprocessings.

    Args:
        loaded: with the library's transform.
        num_images: of each of ``SIZES``.

    Returns:
        None where there is no library's transform to compare with.

    Raises:
        UserError: the transform or the network fails on them.
    """
    if loaded.stock_transform is None:
        return None
    difference, spread, num_same, steps = torch.zeros(1), 1e-6, 0, 0.0
    for size in SIZES:
        images = _probes(loaded, num_images, size)
        theirs = _transformed(loaded, images)
        expected = answer(loaded.classifier.network, theirs, "teacher", SET_BY_HAND)
        found = answer(loaded.classifier, images, "teacher", SET_BY_HAND)
        difference = torch.maximum(difference, (found - expected).abs().max())  # which keeps a nan
        spread = max(spread, float(expected.std()))
        num_same += int((found.argmax(1) == expected.argmax(1)).sum())
        steps = max(steps, _steps(loaded, images, theirs))
    return Parity(float(difference), spread, num_same, len(SIZES) * num_images, steps)


@torch.no_grad()
def check_parity(loaded: LoadedClassifier, source: str, num_images: int = 2) -> None:
    """Refuse a classifier that would see other images here than in its own library.

    Args:
        loaded: just now.
        source: for errors.
        num_images: of each of ``SIZES``; few, since this is done at every start.

    Raises:
        UserError: the logits differ.
    """
    if loaded.stock_transform is None:
        return
    # Where the inputs are the same there is no need to ask the network, which may be large
    probes = [_probes(loaded, num_images, size) for size in SIZES]
    if all(_steps(loaded, images, _transformed(loaded, images)) <= ROUNDING for images in probes):
        return
    parity = measure_parity(loaded, num_images)
    if parity is not None and not parity.holds:
        raise UserError(
            f"expected logits of {source} as after its library's own transform, got ones that differ by up to "
            f"{parity.difference:.2g} (their spread is {parity.spread:.2g}) after our preprocessing "
            f"({loaded.classifier.preprocess.describe()}); {SET_BY_HAND} to what it was trained with"
        )


def _probes(loaded: LoadedClassifier, num_images: int, size: tuple[int, int]) -> Tensor:
    """Images (num, channels, height, width) in 8 bits, of the channels that the network takes."""
    images = probe_images(num_images, size)
    # Gray from the start: which gray a color becomes, Pillow rounds, and we don't
    return images.mean(1, keepdim=True).mul(255).round().div(255) if loaded.classifier.in_channels == 1 else images


def _steps(loaded: LoadedClassifier, images: Tensor, theirs: Tensor) -> float:
    """Mean difference of the network's inputs after both preprocessings, in steps of 8 bits."""
    preprocess = loaded.classifier.preprocess
    ours = preprocess(images)
    if ours.shape != theirs.shape:
        return math.inf
    return float(((ours - theirs) * ours.new_tensor(preprocess.std).view(1, -1, 1, 1)).abs().mean()) * 255


def _transformed(loaded: LoadedClassifier, images: Tensor) -> Tensor:
    """The network's input after the library's own transform of each image (num, channels, height, width)."""
    assert loaded.stock_transform is not None
    with opening("a transform of pictures from the teacher's library", SET_BY_HAND):
        return torch.stack([loaded.stock_transform(to_pil_image(image)) for image in images])
