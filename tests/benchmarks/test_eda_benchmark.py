"""The rivals of the EDA benchmark do what their names say."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.eda import CHUNK, Measurements
from benchmarks.pools import Pool
from prismkd.classifiers import Classifier
from prismkd.guidance.energy import conditional_energy, free_energy


def test_filter_keeps_the_lowest_energies_of_each_class_at_the_whole_price() -> None:
    torch.manual_seed(0)
    teacher = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), {"num_classes": 3, "in_channels": 1})
    session = SimpleNamespace(classes=["a", "b", "c"], teacher=teacher)
    pool = Pool(torch.randn(60, 1, 4, 4) * 5, torch.arange(60) % 3, seconds=12.0)
    kept = Measurements(session, Path()).filtered(pool, 30)

    def energy(some: Pool, label: int) -> torch.Tensor:
        own = some.labels == label
        logits = teacher(some.images[own])
        return free_energy(logits) + 0.5 * conditional_energy(logits, some.labels[own])

    assert kept.seconds == 12.0
    for label in range(3):
        assert int((kept.labels == label).sum()) == 10
        assert torch.allclose(energy(kept, label).sort().values, energy(pool, label).sort().values[:10])


class _Drawing(Measurements):
    """Draws black images, guided ones at 1.25 times the seconds, and counts the draws."""

    drawn = 0

    def synthesizer(self, guidance, teacher=None):
        return guidance

    def draw(self, synthesizers, seed, start, stop):
        self.drawn += 1
        labels = torch.arange(start, stop) % 3
        images = torch.zeros(stop - start, 1, 2, 2)
        return [Pool(images, labels, seconds) for seconds in (8.0, 10.0)[: len(synthesizers)]]


def test_more_buys_plain_images_for_the_seconds_of_guidance_and_calibration(tmp_path: Path) -> None:
    bench = _Drawing(SimpleNamespace(classes=["a", "b", "c"]), tmp_path)
    bench.cells.get("calibration", lambda: {"images": 0.5 * CHUNK})
    plain, guided = bench.pools(0, 2 * CHUNK)
    assert bench.bought(plain.first(2 * CHUNK), guided.first(2 * CHUNK)) == 3 * CHUNK  # (20 + 4) / 8
    assert len(guided.images) == 2 * CHUNK and len(plain.images) == 3 * CHUNK
    assert plain.seconds == 24 and bench.drawn == 3
    bench.pools(0, 2 * CHUNK)
    assert bench.drawn == 3  # stored
    _, guided = bench.pools(0, 3 * CHUNK)  # the third chunk now needs guided images too
    assert len(guided.images) == 3 * CHUNK and bench.drawn == 6
