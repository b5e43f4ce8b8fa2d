"""Which datasets a command means: those of a run, or a folder or URL of shards."""

from __future__ import annotations

from pathlib import Path

from prismkd.config import METHODS, Config
from prismkd.config.authority import check_storage
from prismkd.errors import UserError
from prismkd.records.directory import (
    HELD_OUT,
    chosen_seed,
    dataset_keys,
    held_out_folder,
    is_run,
    recorded_config,
    storage_of,
)
from prismkd.shards import Storage, is_begun


def names_a_run(out: str) -> bool:
    """Whether it is a run's folder, not one of shards; a run is always on a disk."""
    return "://" not in out and is_run(Path(out))


def begun_datasets(out: str, *, trust: bool) -> list[Storage]:
    """Those of a run that have been begun, held-out images included, or the folder itself.

    Args:
        out: the folder.
        trust: whether the run's record may name another place for the images.

    Raises:
        UserError: there are none, or they are in another place.
    """
    if not names_a_run(out):
        images = Storage(out)
        if not is_begun(images):
            raise UserError(f"expected a run's folder or one of shards, got {out}; check --out")
        return [images]
    folder = Path(out)
    config = recorded_config(folder)
    check_storage(config.synthesis.storage, folder, trust=trust)
    found = [storage_of(config, folder, seed, method) for seed, method in _drawn_keys(config)]
    found += [Storage(held_out_folder(folder, kind)) for kind in HELD_OUT]
    begun = [images for images in found if is_begun(images)]
    if not begun:
        raise UserError(f"expected data sets in {folder}, got none yet; run `prismkd synthesize` first")
    return begun


def one_dataset(out: str, method: str, seed: int | None, *, trust: bool) -> Storage:
    """That of a method and a seed of a run, the first one where ``seed`` is None; or the folder itself.

    Raises:
        UserError: the run has no such method or seed, or its images are in another place.
    """
    if not names_a_run(out):
        return Storage(out)
    folder = Path(out)
    config = recorded_config(folder)
    check_storage(config.synthesis.storage, folder, trust=trust)
    seed = chosen_seed(config, folder, _drawn_keys(config), method, seed, kind="data set")
    return storage_of(config, folder, seed, method)


def _drawn_keys(config: Config) -> list[tuple[int, str]]:
    return [(seed, method) for seed, method in dataset_keys(config) if METHODS[method].draws_images]
