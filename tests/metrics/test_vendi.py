from __future__ import annotations

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import vendi_score

ORDERS = [0.5, 1.0, 2.0, np.inf]


@pytest.mark.parametrize("q", ORDERS)
def test_n_orthogonal_samples_count_n(q: float) -> None:
    lengths = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
    assert vendi_score(lengths, q) == pytest.approx(5)


@pytest.mark.parametrize("q", [0.1, *ORDERS])  # a small order would count the rounding of zero eigenvalues
def test_identical_samples_count_one(q: float) -> None:
    features = np.tile(np.random.default_rng(0).normal(size=60), (50, 1))
    assert vendi_score(features, q) == pytest.approx(1)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("num_features", [2, 9])  # fewer and more than the 4 samples
def test_unequal_kinds_count_by_their_renyi_entropy(q: float, num_features: int) -> None:
    features = np.eye(num_features)[[0, 0, 0, 1]]
    p = np.array([0.75, 0.25])
    expected = {0.5: np.sqrt(p).sum() ** 2, 1.0: np.exp(-(p * np.log(p)).sum()), 2.0: 1 / (p**2).sum(), np.inf: 4 / 3}
    assert vendi_score(features, q) == pytest.approx(expected[q])


@pytest.mark.parametrize("shape", [(12, 30), (40, 6)])
def test_it_is_the_exponential_of_the_entropy_of_the_kernels_eigenvalues(shape: tuple[int, int]) -> None:
    # Friedman & Dieng 2023, definition 3.1, with the whole n x n matrix and von Neumann's entropy by its logarithm
    linalg = pytest.importorskip("scipy.linalg")
    features = np.random.default_rng(0).normal(size=shape)
    cosines = features @ features.T / np.outer(*[np.linalg.norm(features, axis=1)] * 2)
    kernel = cosines / len(features)
    kernel += 1e-13 * np.eye(len(features))  # the logarithm of a singular matrix
    entropy = -np.trace(kernel @ linalg.logm(kernel)).real
    assert vendi_score(features) == pytest.approx(np.exp(entropy), rel=1e-6)


def test_two_samples_at_an_angle() -> None:
    cosine = np.cos(1.0)
    p = np.array([1 + cosine, 1 - cosine]) / 2  # eigenvalues of [[1, c], [c, 1]] / 2
    features = np.array([[1.0, 0.0], [np.cos(1.0), np.sin(1.0)]])
    assert vendi_score(features) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_the_order_one_is_a_limit_and_the_score_falls_with_the_order() -> None:
    features = np.random.default_rng(0).normal(size=(40, 16))
    assert vendi_score(features, 1.0) == pytest.approx(vendi_score(features, 1 + 1e-6), rel=1e-4)
    scores = [vendi_score(features, q) for q in ORDERS]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 1


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match=r"zero row"):
        vendi_score(np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(UserError, match=r"zero row"):
        vendi_score(np.array([[1.0, np.nan]]))
    with pytest.raises(UserError, match=r"q > 0, got 0"):
        vendi_score(np.eye(2), q=0)
    with pytest.raises(UserError, match=r"n >= 1, got \(0, 3\)"):
        vendi_score(np.zeros((0, 3)))
