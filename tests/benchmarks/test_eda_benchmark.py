"""The rivals of the EDA benchmark do what their names say."""

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.eda import CHUNK, Measurements
from benchmarks.embedded import SUBSET
from benchmarks.pools import Pool
from prismkd.classes import load_classes
from prismkd.classifiers import Classifier
from prismkd.runs.session import Session

NUM_CLASSES = len(load_classes(SUBSET.classes))


class Sure(nn.Module):
    """As sure of a class as an image's first pixel is bright; which class, the second one says."""

    def forward(self, images: Tensor) -> Tensor:
        brightness, label = images.flatten(1).split(1, dim=1)
        return 8 * brightness * nn.functional.one_hot((label * 255).round().long().flatten(), NUM_CLASSES)


def test_filter_keeps_the_lowest_energies_of_each_class_at_the_whole_price(tmp_path: Path) -> None:
    """Of images of their own class, every energy falls with how sure the teacher is."""
    session = Session(SUBSET)
    sure = Classifier(Sure(), {"num_classes": NUM_CLASSES, "in_channels": 1})
    session.__dict__["teacher"] = sure  # where cached_property looks
    labels = torch.arange(4 * NUM_CLASSES) % NUM_CLASSES
    brightness = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.stack([brightness, labels], dim=1)[:, None, :, None].to(torch.uint8)
    kept = Measurements(session, tmp_path).filtered(Pool(images, labels, seconds=12.0), 2 * NUM_CLASSES)
    assert kept.seconds == 12.0
    for label in range(NUM_CLASSES):
        own = brightness[labels == label].sort().values
        assert kept.images[kept.labels == label][:, 0, 0, 0].sort().values.tolist() == own[2:].tolist()


class _Drawing(Measurements):
    """Draws black images, guided ones at 1.25 times the seconds, and counts the draws."""

    drawn = 0

    def synthesizer(self, guidance, teacher=None):
        return guidance

    def draw(self, synthesizers, seed, start, stop):
        self.drawn += 1
        labels = torch.arange(start, stop) % NUM_CLASSES
        images = torch.zeros(stop - start, 1, 2, 2, dtype=torch.uint8)
        return [Pool(images, labels, seconds) for seconds in (8.0, 10.0)[: len(synthesizers)]]


def test_more_buys_plain_images_for_the_seconds_of_guidance_and_calibration(tmp_path: Path) -> None:
    bench = _Drawing(Session(SUBSET), tmp_path)
    bench.cells.get("calibration", lambda: {"images": 0.5 * CHUNK})
    plain, guided = bench.pools(0, 2 * CHUNK)
    assert bench.bought(plain.first(2 * CHUNK), guided.first(2 * CHUNK)) == 3 * CHUNK  # (20 + 4) / 8
    assert len(guided.images) == 2 * CHUNK and len(plain.images) == 3 * CHUNK
    assert plain.seconds == 24 and bench.drawn == 3
    bench.pools(0, 2 * CHUNK)
    assert bench.drawn == 3  # stored
    _, guided = bench.pools(0, 3 * CHUNK)  # the third chunk now needs guided images too
    assert len(guided.images) == 3 * CHUNK and bench.drawn == 6
