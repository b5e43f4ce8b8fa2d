"""Claiming a folder for a data set: its manifest is written, found again, or extended."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from prismkd.errors import UserError
from prismkd.shards.ledger import drop_shard, scan
from prismkd.shards.manifest import MANIFEST, Folder, Manifest, differences, read_manifest, storage_of
from prismkd.shards.reading import read_shard
from prismkd.shards.storage import Storage


def claim(folder: Folder, manifest: Manifest) -> Manifest:
    """Write the manifest, or find the one that is there; with more images it is extended.

    Where a manifest was lost, shards whose images are not those that the new one says are forgotten.

    Raises:
        UserError: the folder belongs to another plan; the fields that differ are named.
    """
    storage, old = storage_of(folder), read_manifest(folder)
    if old is not None:
        fields = differences(_comparable(old), _comparable(manifest))
        if fields:
            raise UserError(
                f"expected {storage.url} to hold images of this plan, got another {', '.join(fields)}; choose another "
                "folder, or delete this one to draw its images again"
            )
        manifest = old.extended(manifest.num_images)
    else:
        _forget_others(storage, manifest)
    if manifest != old:
        storage.remove_leftovers(MANIFEST)
        storage.write(MANIFEST, (json.dumps(asdict(manifest), indent=1) + "\n").encode())
    return manifest


def _forget_others(storage: Storage, manifest: Manifest) -> None:
    """Drop shards that end elsewhere, as those of a run that was extended may do."""
    ranges = manifest.ranges
    for shard in scan(storage, manifest.plan_hash).records.keys() & range(len(ranges)):
        try:
            indices = [sample.index for sample in read_shard(storage, shard)]
        except UserError:
            indices = []
        if indices != list(ranges[shard]):
            drop_shard(storage, shard)


def _comparable(manifest: Manifest) -> dict[str, Any]:
    found = asdict(manifest)
    return json.loads(json.dumps({**found.pop("identity"), **{k: v for k, v in found.items() if k != "ends"}}))
