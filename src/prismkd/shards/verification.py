"""Reading everything again: is each shard what its commit record says, and is the data set whole?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prismkd.errors import UserError
from prismkd.shards.ledger import Scan, ShardRecord, drop_shard, failure_name, scan, shard_number, tar_name
from prismkd.shards.manifest import MANIFEST, Folder, Manifest, read_manifest, storage_of
from prismkd.shards.reading import finished
from prismkd.shards.storage import Storage

OURS = (MANIFEST, "README.md", "_info.json")


@dataclass(frozen=True)
class Finding:
    """Something wrong with a data set.

    Attributes:
        kind: damaged, failed, missing, or leftover (of a killed writer): ``repair`` mends these; extra (a shard
            that the plan doesn't have); or foreign (not ours), which harms nobody.
        message: expected, got.
        shard: its number, if it is about one.
        name: the file, if it is about one.
    """

    kind: str
    message: str
    shard: int | None = None
    name: str = ""


def inspect(folder: Folder, progress: Callable[[int], None] = lambda count: None) -> tuple[list[Finding], int]:
    """Read every byte of a data set: what is wrong with it, and how many samples are whole.

    Args:
        folder: of a data set.
        progress: called with the number of images of each shard that was read.
    """
    storage, manifest = storage_of(folder), read_manifest(folder)
    found = scan(storage, manifest.plan_hash if manifest else _first_plan(storage))
    findings = [Finding("damaged", reason, shard, tar_name(shard)) for shard, reason in found.damaged.items()]
    whole = 0
    for shard, record in found.records.items():
        problem = _read_again(storage, record)
        progress(record.count)
        if problem:
            findings.append(Finding("damaged", problem, shard, tar_name(shard)))
        else:
            whole += record.count
    return [*findings, *_unfinished(storage, found, manifest), *_strangers(storage)], whole


def verify(folder: Folder) -> int:
    """Read every byte of a data set and return the number of samples.

    Raises:
        UserError: names the first shard that is damaged or of another plan.
    """
    findings, count = inspect(folder)
    wrong = [finding for finding in findings if finding.kind == "damaged"]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0].message}{more}: the shard is damaged; `prismkd repair` draws it again")
    return count


def whole(folder: Folder) -> tuple[Manifest, Scan]:
    """Read every byte of a data set, and return its manifest and records.

    Raises:
        UserError: it is none, a shard is damaged, or one is missing.
    """
    verify(folder)
    return finished(folder)


def clear(folder: Folder, findings: list[Finding]) -> int:
    """Remove what is damaged, given up or left over, so that it is drawn again; returns the number of shards."""
    storage, shards = storage_of(folder), set[int]()
    for finding in findings:
        if finding.kind == "leftover":
            storage.remove(finding.name)
        elif finding.kind in ("damaged", "failed") and finding.shard is not None:
            drop_shard(storage, finding.shard)
            shards.add(finding.shard)
    return len(shards)


def _read_again(storage: Storage, record: ShardRecord) -> str:
    """What is wrong with a shard's bytes; empty: nothing."""
    with storage.reading(tar_name(record.shard)) as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    if digest.hexdigest() == record.sha256:
        return ""
    return f"expected sha256 {record.sha256} in {storage / tar_name(record.shard)}, got {digest.hexdigest()}"


def _first_plan(storage: Storage) -> str:
    """The plan of the first shard, which all others have to share where there is no manifest."""
    return next((record.plan_hash for record in scan(storage).records.values()), "")


def _unfinished(storage: Storage, found: Scan, manifest: Manifest | None) -> Iterator[Finding]:
    for shard in found.uncommitted:
        message = f"{storage / tar_name(shard)} has no commit record: its writer was killed"
        yield Finding("leftover", message, shard, tar_name(shard))
    for shard, reason in found.failed.items():
        yield Finding("failed", f"shard {shard} was given up: {reason}", shard, failure_name(shard))
    if manifest is None:
        yield Finding("missing", f"expected {storage / MANIFEST}, got none: what the shards belong to is lost", None)
        return
    for shard in range(len(manifest.ranges)):
        if not any(shard in known for known in (found.records, found.damaged, found.failed, found.uncommitted)):
            yield Finding("missing", f"expected {storage / tar_name(shard)}, got none: it is not drawn yet", shard)
    for shard in found.records.keys() - range(len(manifest.ranges)):
        got = f"got also {storage / tar_name(shard)}; move it and its commit record away"
        yield Finding("extra", f"expected {len(manifest.ranges)} shards, {got}", shard, tar_name(shard))


def _strangers(storage: Storage) -> Iterator[Finding]:
    """Files that are none of a data set's."""
    for below in ("", "ledger"):
        prefix = f"{below}/" if below else ""
        for name in sorted(storage.sizes(below)):
            known = any(
                shard_number(name, end) is not None for end in ((".json", ".failed.json") if below else (".tar",))
            )
            if name.startswith(".tmp-"):
                yield Finding("leftover", f"{storage / (prefix + name)} is left of a killed writer", name=prefix + name)
            elif not known and (below or name not in OURS):
                yield Finding("foreign", f"{storage / (prefix + name)} is none of prismkd's files", name=prefix + name)
