"""Pools of images with the seconds that they took, drawn by several synthesizers in turn.

Seconds of two ways of drawing can be compared only within the same minutes: a machine's speed drifts. So batches are
drawn in turn, and pools are stored in chunks together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.embedded import labels_of
from prismkd.distillation import to_bytes
from prismkd.prompts import PromptPlan
from prismkd.synthesis.synthesizer import Synthesizer


@dataclass(frozen=True)
class Pool:
    """Images (n, channels, height, width) of one way of drawing, their labels (n,), and the seconds that they took.

    Images are uint8, as they are stored: a pool may hold tens of thousands.
    """

    images: Tensor
    labels: Tensor
    seconds: float

    def first(self, count: int) -> Pool:
        """The first ``count``, at their share of the seconds."""
        return Pool(self.images[:count], self.labels[:count], self.seconds * count / len(self.images))


def join(pools: Sequence[Pool]) -> Pool:
    """Pools one after the other, as one."""
    images, labels = torch.cat([pool.images for pool in pools]), torch.cat([pool.labels for pool in pools])
    return Pool(images, labels, sum(pool.seconds for pool in pools))


def draw_in_turn(synthesizers: Sequence[Synthesizer], plan: PromptPlan, start: int, stop: int) -> list[Pool]:
    """Images ``start`` to ``stop`` of the plan by each synthesizer, batch by batch in turn."""
    size = synthesizers[0].generator.batch_size
    images: list[list[Tensor]] = [[] for _ in synthesizers]
    seconds = [0.0] * len(synthesizers)
    for first in range(start, stop, size):
        prompts = [plan[i] for i in range(first, min(first + size, stop))]
        for number, synthesizer in enumerate(synthesizers):
            begin = time.monotonic()
            images[number].append(to_bytes(synthesizer.draw(prompts)[0]))
            seconds[number] += time.monotonic() - begin
    labels = labels_of(plan, stop)[start:]
    return [Pool(torch.cat(batches), labels, spent) for batches, spent in zip(images, seconds, strict=True)]


def save_pools(path: Path, pools: Sequence[Pool]) -> None:
    """Pools of the same labels in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path.with_suffix(".tmp.npz"), seconds=[pool.seconds for pool in pools], labels=pools[0].labels.numpy(),
             images=np.stack([pool.images.numpy() for pool in pools]))  # fmt: skip
    path.with_suffix(".tmp.npz").replace(path)


def load_pools(path: Path) -> list[Pool]:
    """What ``save_pools`` stored; none where there is no such file."""
    if not path.is_file():
        return []
    with np.load(path) as stored:
        labels = torch.from_numpy(stored["labels"])
        return [Pool(torch.from_numpy(images), labels, float(seconds))
                for images, seconds in zip(stored["images"], stored["seconds"], strict=True)]  # fmt: skip
