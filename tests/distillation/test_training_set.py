"""Training data: from the tars or from memory the same, batches as shares say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prismkd.distillation import TrainingSet, open_images
from prismkd.distillation.tar_images import TarImages
from prismkd.shards import Encoding, Sample, read_samples, to_array, write_shard
from tests.distillation.worlds import halves, mixture


def write(folder: Path, channels: int, encoding: Encoding) -> None:
    rng = np.random.default_rng(0)
    shape = (16, 16) if channels == 1 else (16, 16, 3)
    for shard in range(3):
        samples = [Sample(10 * shard + i, rng.integers(0, 256, shape, np.uint8), i % 4, {}) for i in range(10)]
        write_shard(folder, shard, samples, "plan", encoding)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", [Encoding(), Encoding("webp", 100), Encoding("jpeg", 90)])
def test_tars_and_memory_give_the_same_batches(tmp_path: Path, channels: int, encoding: Encoding) -> None:
    write(tmp_path, channels, encoding)
    (memory, labels), (tars, same) = open_images(tmp_path, 1e9, 0), open_images(tmp_path, 100, 0)
    assert isinstance(tars, TarImages)
    assert tars.image_shape == memory.image_shape == (channels, 16, 16)
    assert torch.equal(labels, same)
    places = list(torch.randint(30, (5, 8), generator=torch.Generator().manual_seed(1)))
    samples = list(read_samples(tmp_path))
    arrays = np.stack([to_array(sample) for sample in samples])
    assert labels.tolist() == [sample.label for sample in samples]
    for batch, first, second in zip(places, memory.batches(places), tars.batches(places), strict=True):
        assert first.dtype == torch.uint8
        assert torch.equal(first, second)
        assert torch.equal(first.float().div(255), torch.from_numpy(arrays)[batch])


def test_worker_processes_keep_the_order(tmp_path: Path) -> None:
    write(tmp_path, 1, Encoding())
    memory, tars = open_images(tmp_path, 1e9, 0)[0], open_images(tmp_path, 0, 2)[0]
    places = list(torch.arange(30).roll(7).split(4))
    for first, second in zip(memory.batches(places), tars.batches(places), strict=True):
        assert torch.equal(first, second)


def test_a_share_of_every_batch_is_real() -> None:
    data = mixture()
    places = [data.draw(torch.Generator().manual_seed(step), 16) for step in range(20)]
    assert all((batch >= 64).sum() == 4 for batch in places)
    assert len(torch.cat(places).unique()) > 80  # of 96
    everything = torch.cat([halves(), halves(32, seed=1)])
    for batch, images in zip(places, data.batches(places), strict=True):
        assert torch.equal(images, everything[batch])


def test_an_image_is_drawn_as_often_as_any_other() -> None:
    data = TrainingSet(halves(8))
    counts = torch.bincount(data.draw(torch.Generator().manual_seed(0), 8000))
    assert len(counts) == 8
    assert (counts - 1000).abs().max() < 150  # five standard deviations
