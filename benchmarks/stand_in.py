"""Images without a model: the engine's own work, for benchmarks and tests of everything but the drawing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prismkd.shards import Manifest, Sample, claim, read_manifest, write_shard
from prismkd.synthesis.workers import Progress, Unit

CLASSES = ("bell", "crane", "mouse")


def manifest_of(num_images: int, shard_size: int, seed: int = 0) -> Manifest:
    """The plan of a data set of stand-ins."""
    return Manifest({"stand-in": seed}, (num_images,), shard_size, CLASSES)


@dataclass(frozen=True)
class OpenStandIns:
    """Opens what draws noise, in any process.

    Attributes:
        folder: of the data set, whose manifest is there.
        delay: seconds per image.
        side: pixels.
        wounds: shards of which each try ends with an error.
    """

    folder: str
    delay: float = 0.0
    side: int = 8
    wounds: tuple[int, ...] = ()

    def __call__(self, device: str) -> Unit:
        """Nothing is loaded."""
        manifest = read_manifest(self.folder)
        assert manifest is not None
        ranges, plan_hash = manifest.ranges, manifest.plan_hash

        def draw(shard: int, progress: Progress) -> None:
            if shard in self.wounds:
                raise ValueError(f"no luck with shard {shard}")
            write_shard(self.folder, shard, self.samples(ranges[shard], progress), plan_hash, manifest.encoding)

        return draw

    def samples(self, indices: range, progress: Progress) -> Iterator[Sample]:
        """Noise that depends on the index only."""
        for index in indices:
            image = np.random.default_rng(index).integers(0, 256, (self.side, self.side), dtype=np.uint8)
            yield Sample(index, image, index % len(CLASSES), {"prompt": f"noise {index}"})
            time.sleep(self.delay)
            progress(1)


def prepared(folder: str, num_images: int, shard_size: int) -> list[int]:
    """Write the manifest; returns the shards' numbers."""
    return list(range(len(claim(folder, manifest_of(num_images, shard_size)).ranges)))
