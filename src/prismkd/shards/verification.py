"""Verification by reading every byte again: is each shard what its commit record says, and is the data set whole?

Bits rot on disks and in transfers without any error; a commit record's size check can't see that. And a record may fit
a tar that somebody else made, so names, labels, logits and metadata are looked at too. Pictures are decoded by whoever
needs them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prismkd.errors import UserError
from prismkd.files import as_user_error, is_temporary
from prismkd.shards.ledger import Scan, ShardRecord, drop_shard, failure_name, scan, shard_number, tar_name
from prismkd.shards.manifest import MANIFEST, Folder, Manifest, read_manifest, storage_of
from prismkd.shards.reading import DamagedShardError, finished, walk_shard
from prismkd.shards.storage import Storage

OWN_FILES = (MANIFEST, "README.md", "_info.json")  # beside the shards


@dataclass(frozen=True)
class Finding:
    """Something that a data set should not have, or lacks.

    Attributes:
        kind: damaged, failed, missing, or leftover (a killed writer's file), all of which ``repair`` corrects; extra (a
            shard that the manifest doesn't have), which the user must move; or foreign (not prismkd's), which harms
            nobody.
        message: what was expected and what is there.
        shard: its number, where the finding is about one.
        name: the file's, where the finding is about one.
    """

    kind: str
    message: str
    shard: int | None = None
    name: str = ""


def inspect(folder: Folder, progress: Callable[[int], None] = lambda count: None) -> tuple[list[Finding], int]:
    """Read every byte of a data set.

    Args:
        folder: of the data set.
        progress: called with the number of images of each shard that was read.

    Returns:
        All findings, and the number of samples in undamaged shards.

    Raises:
        UserError: the manifest is damaged.
    """
    storage, manifest = storage_of(folder), read_manifest(folder)
    # Without a manifest nothing says which plan is right, but a mixture of two can still be told
    ledger = scan(storage, manifest.plan_hash if manifest else _first_plan(storage))
    findings = [Finding("damaged", reason, shard, tar_name(shard)) for shard, reason in ledger.damaged.items()]
    num_undamaged = 0
    for shard, record in ledger.records.items():
        problem = _hash_problem(storage, record) or _problem_inside(storage, record, manifest)
        progress(record.count)
        if problem:
            findings.append(Finding("damaged", problem, shard, tar_name(shard)))
        else:
            num_undamaged += record.count
    return [*findings, *_unfinished(storage, ledger, manifest), *_stray_files(storage)], num_undamaged


def verify(folder: Folder) -> int:
    """Read every byte of a data set, which may be unfinished, and return the number of samples.

    Raises:
        UserError: a shard is damaged or of another plan; the error names the first.
    """
    findings, count = inspect(folder)
    damaged = [finding for finding in findings if finding.kind == "damaged"]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise UserError(f"{damaged[0].message}{more}: the shard is damaged; `prismkd repair` draws it again")
    return count


def verified(folder: Folder) -> tuple[Manifest, Scan]:
    """Read every byte of a finished data set, and return its manifest and ledger.

    Raises:
        UserError: there is no data set, a shard is damaged, or one is missing.
    """
    verify(folder)
    return finished(folder)


def discard_broken(folder: Folder, findings: list[Finding]) -> int:
    """Delete the shards that are damaged or were given up, so that they are drawn again, and killed writers' files.

    Files of the kinds extra and foreign stay: they may be the only copy of somebody's work.

    Returns:
        The number of shards that have to be drawn again.
    """
    storage, shards = storage_of(folder), set[int]()
    for finding in findings:
        if finding.kind == "leftover":  # its shard, if any, is drawn without being dropped, as it has no record
            storage.remove(finding.name)
        elif finding.kind in ("damaged", "failed") and finding.shard is not None:
            drop_shard(storage, finding.shard)
            shards.add(finding.shard)
    return len(shards)


def _hash_problem(storage: Storage, record: ShardRecord) -> str:
    """How a shard's bytes differ from its record; empty where they don't."""
    with storage.reading(tar_name(record.shard)) as file, as_user_error(storage / tar_name(record.shard)):
        digest = hashlib.sha256()
        while chunk := file.read(2**20):  # a tar may be larger than the memory
            digest.update(chunk)
    if digest.hexdigest() == record.sha256:
        return ""
    return f"expected sha256 {record.sha256} in {storage / tar_name(record.shard)}, got {digest.hexdigest()}"


def _problem_inside(storage: Storage, record: ShardRecord, manifest: Manifest | None) -> str:
    """What is wrong with a shard whose record fits its bytes, but for its pictures; empty where nothing is."""
    try:
        deque(walk_shard(storage, record.shard, manifest, record.count, with_images=False), maxlen=0)
    except DamagedShardError as error:
        return error.reason
    return ""


def _first_plan(storage: Storage) -> str:
    """The plan hash of the first shard, which all others have to share where there is no manifest; else empty."""
    return next((record.plan_hash for record in scan(storage).records.values()), "")


def _unfinished(storage: Storage, ledger: Scan, manifest: Manifest | None) -> Iterator[Finding]:
    """Shards that are uncommitted, failed, not drawn yet, or too many."""
    for shard in ledger.uncommitted:
        message = f"{storage / tar_name(shard)} has no commit record: its writer was killed"
        yield Finding("leftover", message, shard, tar_name(shard))
    for shard, reason in ledger.failed.items():
        yield Finding("failed", f"shard {shard} was given up: {reason}", shard, failure_name(shard))
    if manifest is None:
        yield Finding("missing", f"expected {storage / MANIFEST}, got none: what the shards belong to is lost", None)
        return
    for shard in range(len(manifest.ranges)):
        if not any(shard in known for known in (ledger.records, ledger.damaged, ledger.failed, ledger.uncommitted)):
            yield Finding("missing", f"expected {storage / tar_name(shard)}, got none: it is not drawn yet", shard)
    for shard in ledger.records.keys() - range(len(manifest.ranges)):
        got = f"got also {storage / tar_name(shard)}; move it and its commit record away"
        yield Finding("extra", f"expected {len(manifest.ranges)} shards, {got}", shard, tar_name(shard))


def _stray_files(storage: Storage) -> Iterator[Finding]:
    """Files that belong to no shard: of killed writers, or not prismkd's."""
    for folder, suffixes, own_files in (("", (".tar",), OWN_FILES), ("ledger", (".json", ".failed.json"), ())):
        for name in sorted(storage.sizes(folder)):
            path = f"{folder}/{name}" if folder else name
            is_own = name in own_files or any(shard_number(name, suffix) is not None for suffix in suffixes)
            if is_temporary(name):
                yield Finding("leftover", f"{storage / path} is left of a killed writer", name=path)
            elif not is_own:
                yield Finding("foreign", f"{storage / path} is none of prismkd's files", name=path)
