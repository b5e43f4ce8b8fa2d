"""Derived seeds: any seed works, paths don't meet, and the images of earlier versions keep their noise."""

import numpy as np
import pytest
import torch

from prismkd.config.seeds import derive

SEEDS_OF_IMAGES = {  # (run's seed, index) -> seed, as the function before this one gave it
    (0, 0): 6213027144842677344,
    (0, 1): 8613600020916457518,
    (1, 0): 5995469358269906430,
    (7, 123456): 6156788936157507632,
    (102, 2): 3042659171620843429,
    (7_000_000, 0): 2393186259277559127,
    (-3, 5): 4483995462545999125,
    (2**70, 9): 2389113813567897392,
    (2**63 - 1, 10**12): 2643041177883081734,
    (50_000, 47): 2050287701395862007,
}


@pytest.mark.parametrize(("seed", "index"), SEEDS_OF_IMAGES)
def test_an_image_keeps_the_seed_that_it_always_had(seed: int, index: int) -> None:
    assert derive(seed, index) == SEEDS_OF_IMAGES[seed, index]


@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63, 2**64 + 1, 2**70, -(10**30)])
def test_any_seed_gives_one_that_every_generator_takes(seed: int) -> None:
    derived = derive(seed, "batch", 3)
    assert 0 <= derived < 2**63
    assert torch.Generator().manual_seed(derived).initial_seed() == derived
    np.random.default_rng(derived)


def test_different_paths_give_different_seeds() -> None:
    paths = [(), (0,), (1,), (-1,), ("0",), ("1",), (1, 2), (12,), ("1", 2), (1, "2"), ("1:2",), ("1", "2"), ("1,2",),
             ('"',), ('\\"',), ('a":"b',), ("a", "b"), ("ab",), ("a b",), ("batch", 1), ("batch 1",), ("é",), ("",),
             ("", "")]  # fmt: skip
    seeds = [derive(seed, *path) for seed in (0, 1, -1, 2**70) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert derive(1, 2) != derive(12) and derive(0, 1000) != derive(1, 0)


def test_numpys_whole_numbers_are_pythons() -> None:
    assert derive(np.int64(7), np.int32(123456)) == derive(7, 123456)
