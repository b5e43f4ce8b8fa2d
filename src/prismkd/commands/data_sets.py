"""Which data sets a command means: those of a run, or a folder or URL of shards."""

from __future__ import annotations

from pathlib import Path

from prismkd.config import METHODS, Config
from prismkd.errors import UserError
from prismkd.records.directory import images_of, is_run, jobs_of, recorded_config
from prismkd.shards import Storage, is_begun


def names_a_run(out: str) -> bool:
    """Whether it is a run's folder, not one of shards; a run is always on a disk."""
    return "://" not in out and is_run(Path(out))


def begun_data_sets(out: str) -> list[Storage]:
    """Those of a run that have been begun, or the folder itself.

    Raises:
        UserError: there are none.
    """
    if not names_a_run(out):
        images = Storage(out)
        if not is_begun(images):
            raise UserError(f"expected a run's folder or one of shards, got {out}; check --out")
        return [images]
    folder = Path(out)
    config = recorded_config(folder)
    found = [images_of(config, folder, seed, method) for seed, method in _drawing_jobs(config)]
    begun = [images for images in found if is_begun(images)]
    if not begun:
        raise UserError(f"expected data sets in {folder}, got none yet; run `prismkd synthesize` first")
    return begun


def one_data_set(out: str, method: str, seed: int | None) -> Storage:
    """That of a method and a seed of a run, the first one where ``seed`` is None; or the folder itself.

    Raises:
        UserError: the run has no such method or seed.
    """
    if not names_a_run(out):
        return Storage(out)
    folder = Path(out)
    config = recorded_config(folder)
    seed = config.seeds[0] if seed is None else seed
    jobs = _drawing_jobs(config)
    if (seed, method) not in jobs:
        known = ", ".join(f"--method {name} --seed {number}" for number, name in jobs)
        raise UserError(f"expected a data set of {folder}, got method {method} and seed {seed}; use one of {known}")
    return images_of(config, folder, seed, method)


def _drawing_jobs(config: Config) -> list[tuple[int, str]]:
    return [(seed, method) for seed, method in jobs_of(config) if METHODS[method].draws_images]
