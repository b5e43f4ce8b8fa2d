from __future__ import annotations

import numpy as np
import pytest
import torch

from prismkd.errors import UserError
from prismkd.metrics import kernel_distance


def gaussian(seed: int, n: int, num_features: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, num_features))


def test_two_samples_each_by_hand() -> None:
    # k(x, y) = (x y + 1)^3: within {0, 1} it is 1 and within {2, 3} it is 7^3; across 1, 1, 3^3 and 4^3
    real, fake = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    assert kernel_distance(real, fake) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


def test_it_is_unbiased_and_so_zero_on_average_for_equal_distributions() -> None:
    values = [kernel_distance(gaussian(seed, 12), gaussian(1000 + seed, 12), num_subsets=1) for seed in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(400)
    assert min(values) < 0 < max(values)


def test_other_distributions_are_farther_the_more_they_are_moved() -> None:
    real, fake = gaussian(0, 300), gaussian(1, 300)
    distances = [kernel_distance(real, fake + shift, num_subsets=5) for shift in (0.0, 0.5, 1.0)]
    assert abs(distances[0]) < 0.05 < distances[1] < distances[2]


@pytest.mark.parametrize("sizes", [(1200, 1000), (300, 200)])
def test_parity_with_torch_fidelity(sizes: tuple[int, int]) -> None:
    reference = pytest.importorskip("torch_fidelity.metric_kid", reason="pip install torch-fidelity")
    real, fake = gaussian(0, sizes[0]), 0.9 * gaussian(1, sizes[1]) + 0.1
    expected = reference.kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(fake), kid_subsets=10, kid_subset_size=min(1000, *sizes), verbose=False
    )
    found = kernel_distance(real, fake, num_subsets=10)
    assert found == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)


def test_too_few_samples_are_named() -> None:
    with pytest.raises(UserError, match="got 9 real and 1 fake"):
        kernel_distance(gaussian(0, 9), gaussian(1, 1))
