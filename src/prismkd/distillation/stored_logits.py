"""Fast mode: the teacher sees each image once, without augmentation, and the student's views share that verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prismkd.distillation.training_set import TrainingSet, look_size, to_float

LOOK_SIZE = 256


@dataclass(frozen=True)
class StoredLogits:
    """The largest logits of each image; the mass of the others is spread evenly over them.

    Attributes:
        values: (n, k) float16.
        classes: (n, k) int32, or None where all are kept.
        rest: (n, 1) float32, the logit that stands for each of the others.
    """

    values: Tensor
    num_classes: int
    classes: Tensor | None = None
    rest: Tensor | None = None

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The logits (batch, classes) of the images at ``indices``."""
        values = self.values[indices].float()
        if self.classes is None or self.rest is None:
            return values
        return self.rest[indices].repeat(1, self.num_classes).scatter(1, self.classes[indices].long(), values)


def compress(logits: Tensor, top_k: int) -> StoredLogits:
    """Keep the ``top_k`` largest of the logits (n, classes), or all where there are no more."""
    num_classes = logits.shape[1]
    if num_classes <= top_k:
        # float16 keeps 3 digits at half the memory.
        return StoredLogits(logits.half(), num_classes)
    values, classes = logits.topk(top_k, dim=1)
    others = logits.scatter(1, classes, -math.inf)
    # rest = log(mean of exp(others)): so the softmax of what is kept has the right denominator, and each kept class its
    # exact probability, at temperature 1.
    rest = others.logsumexp(1, keepdim=True) - math.log(num_classes - top_k)
    return StoredLogits(values.half(), num_classes, classes.int(), rest.float())


def store(
    teacher: Callable[[Tensor, Tensor | None], Tensor], data: TrainingSet, top_k: int, device: torch.device,
    share: tuple[int, int] = (0, 1), gather: Callable[[Tensor], Tensor] = lambda found: found,
) -> StoredLogits:  # fmt: skip
    """The teacher's logits of every image: those that were kept with the images, and for the others it is asked.

    Args:
        teacher: images (batch, channels, height, width) in [0, 1], and their labels where known, to logits.
        top_k: largest number of logits kept per image.
        share: this process's number, and the number of processes, of which each asks about its part.
        gather: puts the parts of all processes, of equal length, behind each other.
    """
    rank, world = share
    num_known = 0 if data.logits is None else len(data.logits)
    # Real images have no stored logits and are numbered after those that have: the teacher is asked about these.
    if data.logits is not None and num_known == len(data):
        return compress(data.logits.float(), top_k)
    # Parts of equal length, as gathering needs: the last ones repeat the last image, which is cut off below.
    size = math.ceil((len(data) - num_known) / world)
    indices = (num_known + torch.arange(rank * size, (rank + 1) * size)).clamp_max(len(data) - 1)
    looks = indices.split(look_size(data, LOOK_SIZE))
    asked = [None if data.labels is None else data.labels[own].to(device) for own in looks]
    with torch.no_grad():
        parts = [
            compress(teacher(to_float(images.to(device)), labels).float().cpu(), top_k)
            for images, labels in zip(data.batches(looks), asked, strict=True)
        ]

    known = None if data.logits is None else compress(data.logits.float(), top_k)

    def joined(name: str) -> Tensor | None:
        """One of the tensors of ``StoredLogits`` over all images: the known ones come first."""
        tensors = [tensor for part in parts if (tensor := getattr(part, name)) is not None]
        if not tensors:
            return None
        found = gather(torch.cat(tensors).to(device)).cpu()[: len(data) - num_known]
        return found if known is None else torch.cat([getattr(known, name), found])

    values = joined("values")
    assert values is not None
    return StoredLogits(values, parts[0].num_classes, joined("classes"), joined("rest"))
