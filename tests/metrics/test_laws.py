"""Laws of the image metrics: what may be done to all features without a change, and what change it makes else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prismkd.metrics import class_averaged, frechet_distance, kernel_distance, neighborhoods, prdc, vendi_score

SIZES = st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(1, 12))  # reals, fakes, features
SEEDS = st.integers(0, 2**31)


def features(seed: int, sizes: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reals, and fakes that are somewhat off."""
    num_real, num_fake, width = sizes
    random = np.random.default_rng(seed)
    return random.normal(size=(num_real, width)), 0.8 * random.normal(size=(num_fake, width)) + 0.3


def rotation(seed: int, width: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(width, width)))[0]


def shift(seed: int, width: int) -> np.ndarray:
    return 5 * np.random.default_rng(seed + 2).normal(size=width)


@given(SIZES, SEEDS)
def test_prdc_and_fd_see_distances_only(sizes: tuple[int, int, int], seed: int) -> None:
    (real, fake), turn, move = features(seed, sizes), rotation(seed, sizes[2]), shift(seed, sizes[2])
    moved = real @ turn + move, fake @ turn + move
    assert prdc(*moved, k=3) == pytest.approx(prdc(real, fake, k=3), abs=1e-6)
    assert frechet_distance(*moved) == pytest.approx(frechet_distance(real, fake), rel=1e-6, abs=1e-6)
    labels = [np.arange(size) % 2 for size in sizes[:2]]
    pairs = [class_averaged(a, labels[0], b, labels[1], 3) for a, b in ((real, fake), moved)]
    assert pairs[0] is not None and pairs[1] is not None
    assert pairs[1][0] == pytest.approx(pairs[0][0], abs=1e-6) and pairs[1][1] == pairs[0][1]


@given(SIZES, SEEDS)
def test_kid_and_vendi_see_angles_and_lengths_only(sizes: tuple[int, int, int], seed: int) -> None:
    (real, fake), turn = features(seed, sizes), rotation(seed, sizes[2])
    found = kernel_distance(real @ turn, fake @ turn, num_subsets=3)
    assert found == pytest.approx(kernel_distance(real, fake, num_subsets=3), rel=1e-6, abs=1e-6)
    assert vendi_score(fake @ turn) == pytest.approx(vendi_score(fake), abs=1e-6)


@given(SIZES, SEEDS, st.floats(0.1, 10))
def test_a_common_scale_changes_no_prdc_and_fd_by_its_square(
    sizes: tuple[int, int, int], seed: int, scale: float
) -> None:
    real, fake = features(seed, sizes)
    assert prdc(scale * real, scale * fake, k=3) == prdc(real, fake, k=3)
    expected = scale**2 * frechet_distance(real, fake)
    assert frechet_distance(scale * real, scale * fake) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(SIZES, SEEDS)
def test_the_order_of_images_is_no_matter(sizes: tuple[int, int, int], seed: int) -> None:
    (real, fake), random = features(seed, sizes), np.random.default_rng(seed)
    reals, fakes = random.permutation(len(real)), random.permutation(len(fake))
    before, after = neighborhoods(real, fake, 3), neighborhoods(real[reals], fake[fakes], 3)
    for name in ("precision", "density", "complement_precision"):  # a value for each fake
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name)[fakes])
    for name in ("recall", "coverage"):  # a value for each real
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name)[reals])
    shuffled = real[reals], fake[fakes]
    assert frechet_distance(*shuffled) == pytest.approx(frechet_distance(real, fake), rel=1e-9, abs=1e-9)
    assert vendi_score(shuffled[1]) == pytest.approx(vendi_score(fake))


@given(SIZES, SEEDS)
def test_fd_and_kid_do_not_know_which_set_is_real(sizes: tuple[int, int, int], seed: int) -> None:
    real, fake = features(seed, sizes)
    fake = np.concatenate([fake, real])[: len(real)]  # of equal number, a subset of KID is the whole set
    assert frechet_distance(fake, real) == pytest.approx(frechet_distance(real, fake), rel=1e-9, abs=1e-9)
    assert kernel_distance(fake, real, 1) == pytest.approx(kernel_distance(real, fake, 1), rel=1e-9, abs=1e-9)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


@given(SIZES, SEEDS)
def test_vendi_counts_a_copy_once_and_no_length(sizes: tuple[int, int, int], seed: int) -> None:
    real, _ = features(seed, sizes)
    lengths = np.random.default_rng(seed).uniform(0.1, 10, size=(len(real), 1))
    assert vendi_score(np.concatenate([real, 2 * real])) == pytest.approx(vendi_score(real))
    assert vendi_score(lengths * real) == pytest.approx(vendi_score(real))
    assert 1 - 1e-9 <= vendi_score(real) <= min(real.shape) + 1e-9
