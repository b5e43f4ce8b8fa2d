"""Reading a data set: its samples in order, as stored or decoded."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO, cast

from prismkd.errors import UserError
from prismkd.files.machine import is_of_machine, remedy_for
from prismkd.shards.ledger import Scan, scan, tar_name
from prismkd.shards.manifest import Folder, Manifest, read_manifest, storage_of
from prismkd.shards.samples import REPAIR, Encoded, Member, Sample, decode, walk
from prismkd.shards.storage import Storage


class DamagedShardError(UserError):
    """What is in a shard is not what its data set can have.

    Attributes:
        reason: what was expected, and what is there.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; {REPAIR}")
        self.reason = reason


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
    manifest = read_manifest(storage)
    # Before the first sample: a training that stops after hours at a damaged shard has wasted them
    for shard, reason in ledger.damaged.items():
        if shards is None or shard in shards:
            raise UserError(f"{reason}: the shard is damaged; `prismkd repair` draws it again")
    for shard in sorted(ledger.records):
        if shards is None or shard in shards:
            record = ledger.records[shard]
            yield from read_shard(storage, shard, manifest, record.count, record.sha256)


def read_shard(
    storage: Storage, shard: int, manifest: Manifest | None = None, count: int | None = None, sha256: str = ""
) -> Iterator[Encoded]:
    """The samples of one committed shard, in the order of the tar.

    Args:
        storage: of the data set.
        shard: its number.
        manifest: by which labels and logits are checked; None: they aren't.
        count: of samples that the shard must have; None: any.
        sha256: of its record, with which the bytes are compared at the end; empty: they aren't.

    Raises:
        DamagedShardError: the tar is damaged, or not of this data set.
        UserError: the machine couldn't read it.
    """
    return (sample for sample, _ in walk_shard(storage, shard, manifest, count, sha256))


def walk_shard(
    storage: Storage, shard: int, manifest: Manifest | None = None, count: int | None = None, sha256: str = "", *,
    with_images: bool = True,
) -> Iterator[tuple[Encoded, Member]]:  # fmt: skip
    """As ``read_shard``, and where each image is in the tar; without images these aren't read."""
    name, num_read = storage / tar_name(shard), 0
    try:
        with storage.reading(tar_name(shard)) as opened:
            file = _HashedReader(opened) if sha256 else None
            for sample, image in walk(cast(BinaryIO, file or opened), name, with_images=with_images):
                if manifest is not None:
                    _check(sample, len(manifest.classes))
                num_read += 1
                if count is not None and num_read > count:
                    break
                yield sample, image
            if file is not None and file.hexdigest() != sha256:
                raise ValueError(f"other bytes than were drawn (sha256 {file.hexdigest()}, not {sha256})")
    # Whatever damage does to tar headers, numbers, JSON and member names; an OSError may also be a network's
    except (tarfile.TarError, ValueError, OSError, KeyError) as error:
        if is_of_machine(error):
            raise UserError(f"expected to read {name}, got: {error}; {remedy_for(error)}") from None
        raise DamagedShardError(f"expected samples in {name}, got: {error}") from None
    if count is not None and num_read != count:
        got = "more" if num_read > count else num_read
        raise DamagedShardError(f"expected {count} samples in {name}, as its record says, got {got}")


def _check(sample: Encoded, num_classes: int) -> None:
    """Refuse a label or logits of other classes than the data set's."""
    if sample.label >= num_classes:
        raise ValueError(f"label {sample.label} of {num_classes} classes at image {sample.index}")
    if sample.logits is not None and len(sample.logits) != num_classes:
        raise ValueError(f"{len(sample.logits)} logits of {num_classes} classes at image {sample.index}")


class _HashedReader:
    """A file that computes the SHA-256 of all its bytes while it is read onwards, so that it need not be read twice."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.offset = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self.file.read(size)
        self.digest.update(data)
        self.offset += len(data)
        return data

    def seek(self, offset: int) -> None:
        """Go on at a later byte."""
        self.read(offset - self.offset)

    def hexdigest(self) -> str:
        """The digest of the whole file, the rest of which is read now."""
        while self.read(2**20):
            pass
        return self.digest.hexdigest()
