"""Claiming a folder for a data set, before anything is drawn: its manifest is written, found again, or extended."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from prismkd.errors import UserError
from prismkd.shards.ledger import drop_shard, scan
from prismkd.shards.manifest import MANIFEST, Folder, Manifest, differing_keys, read_manifest, storage_of
from prismkd.shards.reading import DamagedShardError, read_shard
from prismkd.shards.storage import Storage


def claim(folder: Folder, manifest: Manifest) -> Manifest:
    """Write the manifest to the folder; one that is there is kept, and extended where the new one has more images.

    Where the manifest was lost, shards that hold other images than the new one assigns to them are dropped.

    Args:
        folder: of the data set, which may not exist yet.
        manifest: that the caller wants.

    Returns:
        The manifest that holds from now on. It may have more images or other ends than the given one.

    Raises:
        UserError: the folder belongs to another plan; the error names the fields that differ.
    """
    storage, old = storage_of(folder), read_manifest(folder)
    if old is not None:
        fields = differing_keys(_comparable(old), _comparable(manifest))
        if fields:
            raise UserError(
                f"expected {storage.url} to hold images of this plan, got another {', '.join(fields)}; choose another "
                "folder, or delete this one to draw its images again"
            )
        manifest = old.extended(manifest.num_images)
    else:
        _drop_misplaced(storage, manifest)
    if manifest != old:
        storage.remove_leftovers(MANIFEST)
        storage.write(MANIFEST, (json.dumps(asdict(manifest), indent=1) + "\n").encode())
    return manifest


def _drop_misplaced(storage: Storage, manifest: Manifest) -> None:
    """Drop shards whose images are others than the manifest's ranges say.

    The plan hash doesn't tell them: it doesn't depend on the ends, and a data set that had been extended has shards
    that end where the new manifest knows of no end.
    """
    ranges = manifest.ranges
    for shard in scan(storage, manifest.plan_hash).records.keys() & range(len(ranges)):
        try:
            indices = [sample.index for sample in read_shard(storage, shard)]
        except DamagedShardError:
            indices = []  # drawn again too
        if indices != list(ranges[shard]):
            drop_shard(storage, shard)


def _comparable(manifest: Manifest) -> dict[str, Any]:
    """What two manifests of one data set must share: all but the ends, with the identity's fields at the top."""
    fields = asdict(manifest)
    del fields["ends"]
    identity = fields.pop("identity")
    return json.loads(json.dumps({**identity, **fields}))  # through JSON, which made lists of the stored one's tuples
