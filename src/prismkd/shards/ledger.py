"""What is drawn and what is not: a commit record per shard.

    dataset.json                      the manifest: what determines the images, how many, and where shards end
    shard-000000.tar                  the images
    ledger/shard-000000.json          the shard's commit record, written last
    ledger/shard-000000.failed.json   why a shard was given up; gone when it is drawn after all

Only a shard with a commit record counts. All files are replaced atomically, so that a crash at any moment leaves a
whole shard or none. Records keep the seconds that a shard took; nothing else depends on the clock.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from prismkd.errors import UserError
from prismkd.shards.manifest import MANIFEST, Folder, storage_of
from prismkd.shards.samples import PNG, Encoded, Encoding, Sample, pack
from prismkd.shards.storage import Storage


@dataclass(frozen=True)
class ShardRecord:
    """The commit record of one shard: sha256 and bytes of its tar, its number of samples, and its seconds."""

    shard: int
    sha256: str
    bytes: int
    count: int
    plan_hash: str
    seconds: float = 0.0


def _to_json(record: ShardRecord) -> bytes:
    """With a checksum of its own, so that damage shows."""
    fields = asdict(record)
    return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1).encode()


def _from_json(contents: bytes) -> ShardRecord | None:
    """The inverse; None where it is damaged."""
    try:
        fields = json.loads(contents)
        return ShardRecord(**fields) if fields.pop("checksum") == _checksum(fields) else None
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Attributes:
        records: of the shards that count, by number.
        damaged: why a shard with a record doesn't count, by number.
        failed: why a shard was given up, by number.
        uncommitted: numbers of shards whose writer was killed before the record was written; they don't count.
    """

    records: dict[int, ShardRecord]
    damaged: dict[int, str]
    failed: dict[int, str]
    uncommitted: tuple[int, ...]

    @property
    def num_images(self) -> int:
        """In all shards that count."""
        return sum(record.count for record in self.records.values())


def write_shard(
    folder: Folder, shard: int, samples: Iterable[Sample | Encoded], plan_hash: str, encoding: Encoding = PNG
) -> ShardRecord:
    """Write and commit one shard; a shard that is committed already stays, and its ``samples`` are not drawn.

    Workers may share ``folder``, each with its own shards: a writer removes only its own shard's leftovers.

    Raises:
        UserError: the shard is committed with another plan hash, an image is not uint8 (h, w) or (h, w, 3), or the
            disk is full.
    """
    storage = storage_of(folder)
    record = _committed(storage, shard, plan_hash)
    if record is not None:
        return record
    start, names = time.monotonic(), (tar_name(shard), record_name(shard))
    for name in names:
        storage.remove_leftovers(name)
    storage.remove(record_name(shard))  # of a shard whose tar is missing or damaged
    with storage.writing(tar_name(shard)) as file:
        hashed = _Hashed(file)
        count = pack(samples, hashed, encoding)  # type: ignore[arg-type]
    seconds = round(time.monotonic() - start, 4)
    record = ShardRecord(shard, hashed.digest.hexdigest(), hashed.bytes, count, plan_hash, seconds)
    storage.write(record_name(shard), _to_json(record))
    storage.remove(failure_name(shard))
    return record


class _Hashed:
    """A file that computes its sha256 while it is written; tars are written front to back."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.bytes


def is_committed(folder: Folder, shard: int, plan_hash: str) -> bool:
    """Whether the shard is there. Raises UserError where its record belongs to another plan."""
    return _committed(storage_of(folder), shard, plan_hash) is not None


def _committed(storage: Storage, shard: int, plan_hash: str) -> ShardRecord | None:
    try:
        record = _from_json(storage.read(record_name(shard)))
    except FileNotFoundError:
        return None
    if record is None or storage.size(tar_name(shard)) != record.bytes:
        return None
    if record.plan_hash != plan_hash:
        raise UserError(
            f"expected plan hash {plan_hash}, got {record.plan_hash} in {storage / record_name(shard)}: its images "
            f"were made from another plan; write to a new folder, or delete {storage.url} to make the images again"
        )
    return record


def scan(folder: Folder, plan_hash: str = "") -> Scan:
    """What is there, from two listings and the records; no tar is read.

    Args:
        plan_hash: of the only plan whose shards count; empty: any.
    """
    storage = storage_of(folder)
    tars, ledger = storage.sizes(), storage.sizes("ledger")
    wanted = {number: name for name in ledger if (number := shard_number(name, ".json")) is not None}
    contents = storage.read_all([f"ledger/{name}" for name in wanted.values()])
    records, damaged = dict[int, ShardRecord](), dict[int, str]()
    for number, name in sorted(wanted.items()):
        if f"ledger/{name}" not in contents:
            continue  # removed since the listing
        record, size = _from_json(contents[f"ledger/{name}"]), tars.get(tar_name(number))
        if record is None or record.shard != number:
            where = storage / f"ledger/{name}"
            damaged[number] = f"expected a commit record of shard {number} in {where}, got something else"
        elif size != record.bytes:
            got = "no file" if size is None else f"{size} bytes"
            damaged[number] = f"expected {record.bytes} bytes in {storage / tar_name(number)}, got {got}"
        elif plan_hash and record.plan_hash != plan_hash:
            where = storage / record_name(number)
            damaged[number] = f"expected plan hash {plan_hash}, got {record.plan_hash} in {where}"
        else:
            records[number] = record
    numbers = (shard_number(name, ".tar") for name in tars)
    uncommitted = sorted(number for number in numbers if number is not None and number not in wanted)
    return Scan(records, damaged, _failures(storage, ledger), tuple(uncommitted))


def _failures(storage: Storage, ledger: Iterable[str]) -> dict[int, str]:
    found = {number: name for name in ledger if (number := shard_number(name, ".failed.json")) is not None}
    contents = storage.read_all([f"ledger/{name}" for name in found.values()])
    return {number: _reason(contents[f"ledger/{name}"]) for number, name in sorted(found.items())
            if f"ledger/{name}" in contents}  # fmt: skip


def _reason(contents: bytes) -> str:
    try:
        return str(json.loads(contents)["reason"])
    except (ValueError, KeyError, TypeError):
        return "unknown (its record is damaged)"


def try_again(folder: Folder, shards: Iterable[int]) -> None:
    """Forget why shards were given up."""
    for shard in shards:
        storage_of(folder).remove(failure_name(shard))


def give_up(folder: Folder, shard: int, reason: str) -> None:
    """Record why a shard could not be drawn."""
    data = {"shard": shard, "reason": reason}
    storage_of(folder).write(failure_name(shard), json.dumps(data, indent=1).encode())


def drop_shard(folder: Folder, shard: int) -> None:
    """Forget a shard, the record first, so that it is drawn again."""
    storage = storage_of(folder)
    for name in (record_name(shard), tar_name(shard), failure_name(shard)):
        storage.remove(name)
        storage.remove_leftovers(name)


def is_begun(folder: Folder) -> bool:
    """Whether there is a manifest, or a shard that has lost it."""
    names = storage_of(folder).sizes()
    return MANIFEST in names or any(shard_number(name, ".tar") is not None for name in names)


def committed_shards(folder: Folder) -> list[int]:
    """The numbers of the committed shards, ascending; empty where the folder has none."""
    return sorted(scan(folder).records)


# --- names -------------------------------------------------------------------------------------------------------


def tar_name(shard: int) -> str:
    """The file of a shard's images."""
    return f"shard-{shard:06d}.tar"


def record_name(shard: int) -> str:
    """The file of its commit record."""
    return f"ledger/shard-{shard:06d}.json"


def failure_name(shard: int) -> str:
    """The file that says why it was given up."""
    return f"ledger/shard-{shard:06d}.failed.json"


def shard_number(name: str, suffix: str) -> int | None:
    """The shard's number in a file name of ours."""
    digits = name.removeprefix("shard-").removesuffix(suffix)
    return int(digits) if name == f"shard-{digits}{suffix}" and digits.isdecimal() else None
