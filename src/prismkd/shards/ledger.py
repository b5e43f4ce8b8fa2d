"""The ledger of a data set: which shards are drawn, with a commit record each, and which were given up.

    dataset.json                      the manifest: what determines the images, how many, and where shards end
    shard-000000.tar                  the images
    ledger/shard-000000.json          the shard's commit record, written last
    ledger/shard-000000.failed.json   why a shard was given up; gone when it is drawn after all

Only a shard with a commit record counts. All files are replaced atomically, so that a crash at any moment leaves a
whole shard or none. Each shard has its own files and nothing is shared between them, so that any number of workers can
write without a lock. Records keep the seconds that a shard took; nothing else depends on the clock.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, BinaryIO, TypedDict, cast

from msgspec import Meta

from prismkd.errors import UserError
from prismkd.files.documents import as_shape, parse_document
from prismkd.shards.manifest import MANIFEST, Folder, storage_of
from prismkd.shards.samples import PNG, Encoded, Encoding, Sample, pack
from prismkd.shards.storage import Storage

Count = Annotated[int, Meta(ge=0, le=2**53)]


class FailureRecord(TypedDict):
    """``ledger/shard-000000.failed.json``: why a shard was given up."""

    shard: Count
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """The commit record of one shard.

    Attributes:
        shard: its number.
        sha256: of the tar.
        bytes: of the tar.
        count: samples in the tar.
        plan_hash: of the manifest that the shard was drawn for.
        seconds: that drawing, encoding and writing took.
    """

    shard: Count
    sha256: Annotated[str, Meta(max_length=64)]
    bytes: Count
    count: Count
    plan_hash: Annotated[str, Meta(max_length=64)]
    seconds: Annotated[float, Meta(ge=0, le=1e12)] = 0.0


def _to_json(record: ShardRecord) -> bytes:
    """A record as JSON, with a checksum of its own fields, so that damage of the record shows too."""
    fields = asdict(record)
    return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1).encode()


def _from_json(contents: bytes) -> ShardRecord | None:
    """A record from JSON; None where it is damaged, whatever else the file holds."""
    try:
        fields = parse_document(contents, dict[str, Any], "a commit record")
        if fields.pop("checksum", None) != _checksum(fields):
            return None
        return as_shape(fields, ShardRecord, "a commit record")
    except UserError:
        return None


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Scan:
    """The ledger of a data set at one moment; other processes may be writing.

    Attributes:
        records: of the shards that count, by number, ascending.
        damaged: why a shard with a record doesn't count, by number.
        failed: why a shard was given up, by number.
        uncommitted: numbers of shards with a tar and no record, whose writer was killed; they don't count.
    """

    records: dict[int, ShardRecord]
    damaged: dict[int, str]
    failed: dict[int, str]
    uncommitted: tuple[int, ...]

    @property
    def num_images(self) -> int:
        """The number of images in all shards that count."""
        return sum(record.count for record in self.records.values())

    @property
    def digest(self) -> str:
        """One SHA-256 of all images, by those of the shards that count."""
        shards = "\n".join(f"{shard} {record.sha256}" for shard, record in sorted(self.records.items()))
        return hashlib.sha256(shards.encode()).hexdigest()


def write_shard(
    folder: Folder, shard: int, samples: Iterable[Sample | Encoded], plan_hash: str, encoding: Encoding = PNG
) -> ShardRecord:
    """Write and commit one shard. A shard that is committed already stays, and its ``samples`` are not drawn.

    Workers may share ``folder``, each with its own shards: a writer removes only its own shard's leftovers.

    Args:
        folder: of the data set.
        shard: its number.
        samples: in their order; drawn as they are taken from the iterator.
        plan_hash: of the manifest.
        encoding: of images that aren't encoded yet.

    Raises:
        UserError: the shard is committed with another plan hash, an image is not uint8 (height, width) or (height,
            width, 3), or the disk is full.
    """
    storage = storage_of(folder)
    record = _committed(storage, shard, plan_hash)
    if record is not None:
        return record
    start, names = time.monotonic(), (tar_name(shard), record_name(shard))
    for name in names:
        storage.remove_leftovers(name)
    # A record that is still there is of a missing or damaged tar. It goes before the new tar comes: the other way round
    # a crash could leave an old record beside a new tar of the same size.
    storage.remove(record_name(shard))
    with storage.writing(tar_name(shard)) as file:
        hashed = _Hashed(file)
        count = pack(samples, cast(BinaryIO, hashed), encoding)  # tarfile only calls write and tell
    seconds = round(time.monotonic() - start, 4)
    record = ShardRecord(shard, hashed.digest.hexdigest(), hashed.bytes, count, plan_hash, seconds)
    storage.write(record_name(shard), _to_json(record))
    storage.remove(failure_name(shard))
    return record


class _Hashed:
    """A file that computes its sha256 while it is written, so that it need not be read again.

    This works since a tar is written from front to back, without seeking.
    """

    def __init__(self, file: Any) -> None:
        self.file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.bytes


def is_committed(folder: Folder, shard: int, plan_hash: str) -> bool:
    """Whether a shard is committed and its tar has the right size.

    Raises:
        UserError: its record belongs to another plan.
    """
    return _committed(storage_of(folder), shard, plan_hash) is not None


def _committed(storage: Storage, shard: int, plan_hash: str) -> ShardRecord | None:
    """The record of a committed shard; None where it has to be drawn."""
    try:
        record = _from_json(storage.read(record_name(shard)))
    except FileNotFoundError:
        return None
    # The size shows a truncated or missing tar at the cost of one stat; hashing every tar on every start would not pay,
    # and ``verify`` does it on demand
    if record is None or record.shard != shard or storage.size(tar_name(shard)) != record.bytes:
        return None
    if record.plan_hash != plan_hash:
        raise UserError(
            f"expected plan hash {plan_hash}, got {record.plan_hash} in {storage / record_name(shard)}: its images "
            f"were made from another plan; write to a new folder, or delete {storage.url} to make the images again"
        )
    return record


def scan(folder: Folder, plan_hash: str = "") -> Scan:
    """Read the ledger, by two listings and the small record files; no tar is read.

    Args:
        folder: of the data set; an empty or missing one has an empty ledger.
        plan_hash: of the only plan whose shards count; empty: any.
    """
    storage = storage_of(folder)
    # The ledger is listed before the tars, since writers go the other way: a shard that is committed between the two
    # listings looks uncommitted for now, and not as if its tar were lost
    ledger_files, tar_sizes = storage.sizes("ledger"), storage.sizes()
    record_files = {shard: name for name in ledger_files if (shard := shard_number(name, ".json")) is not None}
    contents = storage.read_all([f"ledger/{name}" for name in record_files.values()])
    records, damaged = dict[int, ShardRecord](), dict[int, str]()
    for shard, name in sorted(record_files.items()):
        if f"ledger/{name}" not in contents:
            continue  # removed since the listing
        record = _from_json(contents[f"ledger/{name}"])
        if record is None or record.shard != shard:  # of another shard: a record that was copied or renamed
            where = storage / f"ledger/{name}"
            damaged[shard] = f"expected a commit record of shard {shard} in {where}, got something else"
        elif problem := _problem(storage, record, tar_sizes.get(tar_name(shard)), plan_hash):
            damaged[shard] = problem
        else:
            records[shard] = record
    numbers = (shard_number(name, ".tar") for name in tar_sizes)
    uncommitted = sorted(shard for shard in numbers if shard is not None and shard not in record_files)
    return Scan(records, damaged, _failures(storage, ledger_files), tuple(uncommitted))


def _problem(storage: Storage, record: ShardRecord, size: int | None, plan_hash: str) -> str:
    """Why a shard with a record doesn't count; empty where it does. ``size`` is the tar's, None where there is none."""
    if size != record.bytes:
        got = "no file" if size is None else f"{size} bytes"
        return f"expected {record.bytes} bytes in {storage / tar_name(record.shard)}, got {got}"
    if plan_hash and record.plan_hash != plan_hash:
        return f"expected plan hash {plan_hash}, got {record.plan_hash} in {storage / record_name(record.shard)}"
    return ""


def _failures(storage: Storage, ledger_files: Iterable[str]) -> dict[int, str]:
    """Why shards were given up, by number."""
    files = {shard: name for name in ledger_files if (shard := shard_number(name, ".failed.json")) is not None}
    contents = storage.read_all([f"ledger/{name}" for name in files.values()])
    return {shard: _reason(contents[f"ledger/{name}"]) for shard, name in sorted(files.items())
            if f"ledger/{name}" in contents}  # fmt: skip


def _reason(contents: bytes) -> str:
    """The reason in a failure record. A damaged one still counts as a failure: its shard isn't drawn either way."""
    try:
        return parse_document(contents, FailureRecord, "a failure record")["reason"]
    except UserError:
        return "unknown (its record is damaged)"


def clear_failures(folder: Folder, shards: Iterable[int]) -> None:
    """Remove the failure records of shards that are about to be drawn again."""
    for shard in shards:
        storage_of(folder).remove(failure_name(shard))


def record_failure(folder: Folder, shard: int, reason: str) -> None:
    """Record why a shard could not be drawn, so that other processes and ``verify`` see it."""
    data = FailureRecord(shard=shard, reason=reason)
    storage_of(folder).write(failure_name(shard), json.dumps(data, indent=1).encode())


def drop_shard(folder: Folder, shard: int) -> None:
    """Delete a shard with all its files, so that it is drawn again."""
    storage = storage_of(folder)
    # The record goes first: a crash in between leaves a tar without a record, which doesn't count
    for name in (record_name(shard), tar_name(shard), failure_name(shard)):
        storage.remove(name)
        storage.remove_leftovers(name)


def is_begun(folder: Folder) -> bool:
    """Whether the folder holds a data set, perhaps a partial one: a manifest, or a shard whose manifest was lost."""
    names = storage_of(folder).sizes()
    return MANIFEST in names or any(shard_number(name, ".tar") is not None for name in names)


def committed_shards(folder: Folder) -> list[int]:
    """The numbers of the committed shards, ascending; empty where the folder has none, or doesn't exist."""
    return sorted(scan(folder).records)


# --- names -------------------------------------------------------------------------------------------------------


def tar_name(shard: int) -> str:
    """The name of a shard's tar. Six digits sort as numbers do in listings up to a million shards."""
    return f"shard-{shard:06d}.tar"


def record_name(shard: int) -> str:
    """The name of a shard's commit record."""
    return f"ledger/shard-{shard:06d}.json"


def failure_name(shard: int) -> str:
    """The name of a shard's failure record."""
    return f"ledger/shard-{shard:06d}.failed.json"


def shard_number(name: str, suffix: str) -> int | None:
    """The number in a file name that ends in ``suffix``; None where the name isn't a shard's.

    A user's own ``shard-x.tar`` or ``shard-1.tar.bak`` is None: it is reported as foreign and never deleted.
    """
    digits = name.removeprefix("shard-").removesuffix(suffix)
    return int(digits) if name == f"shard-{digits}{suffix}" and digits.isdecimal() else None
