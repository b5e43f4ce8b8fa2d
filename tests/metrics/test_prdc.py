from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.metrics import Prdc, class_averaged, neighborhoods, prdc, symmetric


def gaussian(seed: int, n: int, num_features: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, num_features)).astype(np.float32)


def integers(seed: int, n: int) -> np.ndarray:
    """Points of a small grid: many duplicates and ties, and products that float64 holds exactly."""
    return np.random.default_rng(seed).integers(0, 4, size=(n, 3)).astype(np.float64)


def sparse(seed: int, n: int) -> np.ndarray:
    """Features after a ReLU: nine of ten are zero, and so are some whole rows."""
    random = np.random.default_rng(seed)
    return np.maximum(random.normal(size=(n, 40)) - 1.3, 0)


def test_identical_sets_are_perfect() -> None:
    # Each ball holds its center and, strictly inside, k - 1 neighbors: k balls around a sample on average
    features = gaussian(0, 200)
    assert prdc(features, features.copy(), k=5) == pytest.approx(Prdc(1, 1, 1, 1), abs=1e-12)


def test_distant_sets_share_nothing() -> None:
    assert prdc(gaussian(0, 60), gaussian(1, 50) + 100, k=5) == Prdc(0, 0, 0, 0)


def test_four_real_and_three_fake_points_on_a_line() -> None:
    real = np.array([[0.0], [1.0], [3.0], [13.0]])  # radii 1, 1, 2, 10 for k = 1
    fake = np.array([[0.5], [4.0], [30.0]])  # radii 3.5, 3.5, 26
    # fakes in real balls: 0.5 is in those of 0 and 1, 4 in those of 3 and 13; reals in fake balls: all four
    assert prdc(real, fake, k=1) == pytest.approx(Prdc(precision=2 / 3, recall=1, density=4 / 3, coverage=1))


def test_the_surface_is_not_inside() -> None:
    real = np.array([[0.0], [1.0], [0.0]])  # radii 0, 1, 0 for k = 1
    assert prdc(real, np.array([[0.0], [0.0]]), k=1) == Prdc(precision=0, recall=0, density=0, coverage=0)


def test_precision_and_recall_swap_with_the_sets() -> None:
    real, fake = gaussian(0, 150), 0.5 * gaussian(1, 90)
    there, back = prdc(real, fake, k=3), prdc(fake, real, k=3)
    assert (there.precision, there.recall) == pytest.approx((back.recall, back.precision))
    assert there.precision > there.recall + 0.2  # shrunken fakes


def test_a_common_offset_changes_nothing() -> None:
    real, fake = gaussian(0, 150).astype(np.float64), gaussian(1, 90).astype(np.float64)
    assert prdc(real + 1e6, fake + 1e6, k=3) == prdc(real, fake, k=3)


def test_single_precision_features_are_measured_in_double_precision() -> None:
    real, fake = integers(0, 150), integers(1, 90)
    assert prdc((real + 1000).astype(np.float32), (fake + 1000).astype(np.float32), k=3) == prdc(real, fake, k=3)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prdc(gaussian(0, 150), gaussian(1, 90), k=3)
    monkeypatch.setattr(import_module("prismkd.metrics.prdc"), "CHUNK", 7)  # the package's `prdc` is the function
    assert prdc(gaussian(0, 150), gaussian(1, 90), k=3) == whole


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        pytest.param(gaussian(0, 200), gaussian(1, 200), id="equal-n"),
        pytest.param(gaussian(2, 130), 0.8 * gaussian(3, 310) + 0.3, id="unequal-n"),
        pytest.param(gaussian(4, 200, 64) + 5, gaussian(5, 100, 64) + 5, id="offset"),
        pytest.param(integers(6, 120), integers(7, 80), id="duplicates"),
        pytest.param(integers(8, 100), integers(8, 100), id="identical"),
        pytest.param(sparse(9, 150), sparse(10, 220), id="sparse"),
    ],
)
@pytest.mark.parametrize("k", [1, 5])
def test_parity_with_the_reference(real: np.ndarray, fake: np.ndarray, k: int) -> None:
    reference = pytest.importorskip("prdc", reason="the reference implementation is absent: pip install prdc")
    # in float64: the reference's float32 distances would differ by more than the tolerance
    expected = reference.compute_prdc(real.astype(np.float64), fake.astype(np.float64), nearest_k=k)
    assert prdc(real, fake, k)._asdict() == pytest.approx(expected, abs=1e-6)


def test_symmetric_values_swap_with_the_sets_and_are_never_larger() -> None:
    real, fake = gaussian(0, 150), 0.7 * gaussian(1, 90) + 0.2
    plain, there, back = (
        prdc(real, fake, k=3),
        *(symmetric(neighborhoods(*sets, k=3)) for sets in ((real, fake), (fake, real))),
    )
    assert (there.sym_precision, there.sym_recall) == pytest.approx((back.sym_recall, back.sym_precision))
    assert there.sym_precision <= plain.precision and there.sym_recall <= min(plain.recall, plain.coverage)


def test_symmetric_precision_sees_fakes_inside_the_real_support_in_many_dimensions() -> None:
    # Khayatkhoei & AbdAlmageed 2023: on a smaller sphere all fakes count as precise, on a larger one none
    real, fake = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (gaussian(0, 300, 128), gaussian(1, 300, 128)))
    inner, outer = neighborhoods(real, 0.7 * fake, k=5), neighborhoods(real, 1.3 * fake, k=5)
    assert inner.precision.mean() == 1 and outer.precision.mean() < 0.1
    assert symmetric(inner).sym_precision < 0.1 and symmetric(outer).sym_precision < 0.1


def test_a_companion_of_precision_by_hand() -> None:
    real, fake = np.array([[0.0], [1.0], [3.0], [13.0]]), np.array([[0.5], [4.0], [30.0]])
    # fake balls of radii 3.5, 3.5 and 26 hold reals: 0.5 holds 0, 1, 3; 4 holds 1, 3; 30 holds 13
    assert neighborhoods(real, fake, k=1).complement_precision.tolist() == [1, 1, 1]
    assert neighborhoods(real, fake + 100, k=1).complement_precision.tolist() == [0, 0, 0]


def test_the_class_average_sees_a_swap_of_classes_that_pooled_values_hide() -> None:
    centers = 100 * np.repeat([0, 1], 40)
    features, labels = gaussian(0, 80) + centers[:, None], np.repeat([0, 1], 40)
    swapped = class_averaged(features, labels, features, 1 - labels, k=3)
    same = class_averaged(features, labels, features, labels, k=3)
    assert prdc(features, features, k=3).precision == 1
    assert swapped == (Prdc(0, 0, 0, 0), 80)
    assert same is not None and same[0].recall == 1


def test_classes_with_too_few_samples_are_left_out_of_the_average() -> None:
    real, fake = gaussian(0, 20), gaussian(1, 20)
    labels = np.array([0] * 17 + [1] * 3)
    found = class_averaged(real, labels, fake, labels, k=3)
    assert found is not None and found[1] == 17
    assert found[0] == pytest.approx(prdc(real[:17], fake[:17], k=3))
    assert class_averaged(real, np.arange(20), fake, np.arange(20), k=3) is None


def test_too_few_samples_are_named() -> None:
    with pytest.raises(UserError, match=r"got k = 5, 5 real and 80 fake; lower k"):
        prdc(gaussian(0, 5), gaussian(1, 80), k=5)
    with pytest.raises(UserError, match=r"got k = 5, 80 real and 5 fake"):
        prdc(gaussian(0, 80), gaussian(1, 5), k=5)
    prdc(gaussian(0, 6), gaussian(1, 6), k=5)


def test_bad_features_are_named() -> None:
    with pytest.raises(UserError, match=r"got \(9, 8\) and \(9, 7\)"):
        prdc(gaussian(0, 9), gaussian(1, 9, 7), k=1)
    with pytest.raises(UserError, match=r"finite features"):
        prdc(np.full((9, 8), np.nan), gaussian(1, 9), k=1)
