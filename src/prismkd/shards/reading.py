"""Reading a data set: its samples in order, or all of it as arrays."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from prismkd.errors import UserError
from prismkd.shards.ledger import Scan, scan, tar_name
from prismkd.shards.manifest import Folder, Manifest, read_manifest, storage_of
from prismkd.shards.samples import Encoded, Sample, decode, to_array, unpack
from prismkd.shards.storage import Storage


def read_samples(folder: Folder, shards: Collection[int] | None = None) -> Iterator[Sample]:
    """As ``read_encoded``, with the images decoded."""
    return map(decode, read_encoded(folder, shards))


def finished(folder: Folder) -> tuple[Manifest, Scan]:
    """The manifest and records of a whole data set.

    Raises:
        UserError: it is none, or not whole.
    """
    storage = storage_of(folder)
    manifest, found = read_manifest(storage), scan(storage)
    if manifest is None:
        raise UserError(f"expected a data set of prismkd with dataset.json, got {storage.url}; check the path")
    missing = manifest.missing(found.records)
    if missing:
        raise UserError(
            f"expected {len(manifest.ranges)} shards in {storage.url}, got {len(manifest.ranges) - len(missing)}; "
            "finish it with `prismkd synthesize` or `prismkd repair` first"
        )
    strange = [shard for shard in found.records if shard >= len(manifest.ranges)]
    if strange:
        raise UserError(
            f"expected {len(manifest.ranges)} shards in {storage.url}, got also {tar_name(strange[0])}; move it and "
            "its commit record away"
        )
    return manifest, found


def read_encoded(folder: Folder, shards: Collection[int] | None = None) -> Iterator[Encoded]:
    """The samples of all shards, or of those asked for, in their order. Checks sizes; ``verify`` checks every byte.

    Raises:
        UserError: a shard is damaged.
    """
    storage, found = storage_of(folder), scan(folder)
    wanted = (lambda shard: True) if shards is None else shards.__contains__
    for reason in (reason for shard, reason in found.damaged.items() if wanted(shard)):
        raise UserError(f"{reason}: the shard is damaged; `prismkd repair` draws it again")
    for shard in filter(wanted, sorted(found.records)):
        yield from read_shard(storage, shard)


def read_shard(storage: Storage, shard: int) -> Iterator[Encoded]:
    """The samples of one committed shard.

    Raises:
        UserError: it is damaged.
    """
    with storage.reading(tar_name(shard)) as file:
        try:
            yield from unpack(file)
        except (tarfile.TarError, ValueError, OSError, KeyError) as error:
            raise UserError(
                f"expected samples in {storage / tar_name(shard)}, got: {error}; `prismkd repair` draws it again"
            ) from None


def load_arrays(folder: Folder) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """All committed samples in memory: images float32 (n, channels, height, width) in [0, 1], labels int64, metadata.

    Raises:
        UserError: there is no committed shard, or the images differ in shape.
    """
    samples = list(read_samples(folder))
    shapes = {sample.image.shape for sample in samples}
    if len(shapes) != 1:
        raise UserError(
            f"expected images of one shape in {storage_of(folder).url}, got {sorted(shapes) or 'no committed sample'}; "
            "do finish the synthesis, or read the images one by one with read_samples"
        )
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return np.stack([to_array(sample) for sample in samples]), labels, [sample.metadata for sample in samples]
