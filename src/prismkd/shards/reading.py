"""Reading a data set: its samples in order, as stored or decoded."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO, cast

from prismkd.errors import UserError
from prismkd.shards.ledger import Scan, scan, tar_name
from prismkd.shards.manifest import Folder, Manifest, read_manifest, storage_of
from prismkd.shards.samples import Encoded, Sample, decode, unpack
from prismkd.shards.storage import Storage


def read_samples(folder: Folder, shards: Collection[int] | None = None) -> Iterator[Sample]:
    """The samples of ``read_encoded`` with their images decoded; arguments and errors as there."""
    return map(decode, read_encoded(folder, shards))


def finished(folder: Folder) -> tuple[Manifest, Scan]:
    """The manifest and ledger of a data set of which every shard is committed. No tar is read: see ``verified``.

    Raises:
        UserError: there is no data set, shards are missing, or there are more than the manifest has.
    """
    storage = storage_of(folder)
    manifest, ledger = read_manifest(storage), scan(storage)
    if manifest is None:
        raise UserError(f"expected a data set of prismkd with dataset.json, got {storage.url}; check the path")
    missing = manifest.missing(ledger.records)
    if missing:
        raise UserError(
            f"expected {len(manifest.ranges)} shards in {storage.url}, got {len(manifest.ranges) - len(missing)}; "
            "finish it with `prismkd synthesize` or `prismkd repair` first"
        )
    # Nobody knows what a further shard is, and readers would train on it
    extra = [shard for shard in ledger.records if shard >= len(manifest.ranges)]
    if extra:
        raise UserError(
            f"expected {len(manifest.ranges)} shards in {storage.url}, got also {tar_name(extra[0])}; move it and "
            "its commit record away"
        )
    return manifest, ledger


def read_encoded(folder: Folder, shards: Collection[int] | None = None) -> Iterator[Encoded]:
    """The samples of committed shards in the order of the shards, one in memory at a time.

    The size of every tar is checked before the first sample, and all its bytes against its record when the last one
    has been read; ``verify`` checks them without decoding anything.

    Args:
        folder: of the data set.
        shards: numbers of the shards to read; None: all that are committed.

    Raises:
        UserError: one of the shards is damaged.
    """
    storage, ledger = storage_of(folder), scan(folder)
    # Before the first sample: a training that stops after hours at a damaged shard has wasted them
    for shard, reason in ledger.damaged.items():
        if shards is None or shard in shards:
            raise UserError(f"{reason}: the shard is damaged; `prismkd repair` draws it again")
    for shard in sorted(ledger.records):
        if shards is None or shard in shards:
            yield from read_shard(storage, shard, ledger.records[shard].sha256)


def read_shard(storage: Storage, shard: int, sha256: str = "") -> Iterator[Encoded]:
    """The samples of one committed shard, in the order of the tar.

    Args:
        storage: of the data set.
        shard: its number.
        sha256: of its record, with which the bytes are compared at the end; empty: they aren't.

    Raises:
        UserError: the tar is damaged.
    """
    with storage.reading(tar_name(shard)) as file:
        hashed = _HashedReader(file)
        try:
            yield from unpack(cast(BinaryIO, hashed))  # which only calls read
            while sha256 and hashed.read(2**20):
                pass  # what fills the tar up behind the last sample
            if sha256 and hashed.digest.hexdigest() != sha256:
                raise ValueError(f"other bytes than were drawn (sha256 {hashed.digest.hexdigest()}, not {sha256})")
        # Whatever damage does to tar headers, numbers, JSON and member names; an OSError may also be a network's
        except (tarfile.TarError, ValueError, OSError, KeyError) as error:
            raise UserError(
                f"expected samples in {storage / tar_name(shard)}, got: {error}; `prismkd repair` draws it again"
            ) from None


class _HashedReader:
    """A file that computes the SHA-256 of what is read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self.file.read(size)
        self.digest.update(data)
        return data
