from __future__ import annotations

import numpy as np
import pytest
import torch

from prismkd.errors import UserError
from prismkd.metrics import frechet_distance


def with_moments(n: int, mean: np.ndarray, root: np.ndarray, seed: int = 0) -> np.ndarray:
    """Features whose sample mean is exactly ``mean`` and whose unbiased covariance is exactly ``root.T @ root``."""
    draw = np.random.default_rng(seed).normal(size=(n, len(mean)))
    draw -= draw.mean(axis=0)
    white = np.linalg.qr(draw)[0] * np.sqrt(n - 1)
    return white @ root + mean


def test_a_shift_of_a_gaussian_costs_its_squared_length() -> None:
    shift = np.array([3.0, 0.0, -4.0])
    one, other = with_moments(50, np.zeros(3), np.eye(3)), with_moments(80, shift, np.eye(3), seed=1)
    assert frechet_distance(one, other) == pytest.approx(25, abs=1e-9)


def test_commuting_covariances_have_a_closed_form() -> None:
    stretch = np.array([0.5, 1.0, 2.0, 4.0])
    one, other = with_moments(50, np.zeros(4), np.eye(4)), with_moments(60, np.zeros(4), np.diag(stretch), seed=1)
    assert frechet_distance(one, other) == pytest.approx(((stretch - 1) ** 2).sum(), abs=1e-9)


def test_a_set_has_no_distance_to_itself_even_with_fewer_samples_than_features() -> None:
    features = np.random.default_rng(0).normal(size=(20, 300))
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-9)


def test_orthogonal_subspaces_share_no_spread() -> None:
    # S1 S2 = 0, so that the distance is the sum of all variances; rank 3 and 2 of 10 features
    one, other = np.zeros((40, 10)), np.zeros((30, 10))
    one[:, :3] = with_moments(40, np.zeros(3), 2 * np.eye(3))
    other[:, 5:7] = with_moments(30, np.zeros(2), 3 * np.eye(2))
    assert frechet_distance(one, other) == pytest.approx(3 * 4 + 2 * 9, abs=1e-9)


@pytest.mark.parametrize("num_features", [8, 64])
def test_parity_with_torch_fidelity(num_features: int) -> None:
    reference = pytest.importorskip("torch_fidelity.metric_fid", reason="pip install torch-fidelity")
    random = np.random.default_rng(0)
    mixing = random.normal(size=(num_features, num_features)) / 4
    real = random.normal(size=(500, num_features))
    fake = random.normal(size=(400, num_features)) @ mixing + 0.3
    statistics = [reference.fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)]
    expected = reference.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-9)


def test_bad_features_are_named() -> None:
    with pytest.raises(UserError, match="at least 2 samples in each set, got 1 real and 9 fake"):
        frechet_distance(np.zeros((1, 3)), np.zeros((9, 3)))
    with pytest.raises(UserError, match=r"got \(9, 3\) and \(9, 4\)"):
        frechet_distance(np.zeros((9, 3)), np.zeros((9, 4)))
