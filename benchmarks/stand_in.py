"""Noise in place of images: what is left is the engine's own work, for benchmarks and tests of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prismkd.shards import Manifest, Sample, claim, read_manifest, write_shard
from prismkd.synthesis.workers import Progress, Unit

CLASSES = ("bell", "crane", "mouse")


def manifest_of(num_images: int, shard_size: int, seed: int = 0) -> Manifest:
    """The manifest of a data set of stand-ins; another ``seed`` is another plan."""
    return Manifest({"stand-in": seed}, (num_images,), shard_size, CLASSES)


@dataclass(frozen=True)
class OpenStandIns:
    """Makes, in any process, the function that draws a shard of noise: called with a device, as workers call it.

    Attributes:
        folder: of the data set, whose manifest is there.
        delay: seconds per image.
        side: pixels.
    """

    folder: str
    delay: float = 0.0
    side: int = 8

    def __call__(self, device: str) -> Unit:
        manifest = read_manifest(self.folder)
        assert manifest is not None
        ranges, plan_hash = manifest.ranges, manifest.plan_hash

        def draw(shard: int, progress: Progress) -> None:
            write_shard(self.folder, shard, self.samples(ranges[shard], progress), plan_hash, manifest.encoding)

        return draw

    def samples(self, indices: range, progress: Progress) -> Iterator[Sample]:
        """Noise that depends on the index only, so that a shard has the same bytes whoever draws it."""
        for index in indices:
            image = np.random.default_rng(index).integers(0, 256, (self.side, self.side), dtype=np.uint8)
            yield Sample(index, image, index % len(CLASSES), {"prompt": f"noise {index}"})
            time.sleep(self.delay)  # so that there is a time in which a kill meets an unfinished shard
            progress(1)


def prepared(folder: str, num_images: int, shard_size: int) -> list[int]:
    """Write the manifest of a data set; returns the numbers of its shards."""
    return list(range(len(claim(folder, manifest_of(num_images, shard_size)).ranges)))
