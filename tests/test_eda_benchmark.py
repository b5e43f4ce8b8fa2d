"""The rivals of the EDA benchmark do what their names say."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.eda import Bench, Pool
from prismkd.energy import conditional_energy, free_energy
from prismkd.teachers import Classifier


def test_filter_keeps_the_lowest_energies_of_each_class_at_the_whole_price() -> None:
    torch.manual_seed(0)
    teacher = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), {"num_classes": 3, "in_channels": 1})
    laboratory = SimpleNamespace(classes=["a", "b", "c"], teacher=teacher)
    pool = Pool(torch.randn(60, 1, 4, 4) * 5, torch.arange(60) % 3, seconds=12.0)
    kept = Bench(laboratory, Path()).filtered(pool, 30)  # type: ignore[arg-type]

    def energy(some: Pool, label: int) -> torch.Tensor:
        own = some.labels == label
        logits = teacher(some.images[own])
        return free_energy(logits) + 0.5 * conditional_energy(logits, some.labels[own])

    assert kept.seconds == 12.0
    for label in range(3):
        assert int((kept.labels == label).sum()) == 10
        assert torch.allclose(energy(kept, label).sort().values, energy(pool, label).sort().values[:10])
