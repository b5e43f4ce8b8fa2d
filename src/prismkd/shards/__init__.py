"""The on-disk format of synthesized images: webdataset shards with a ledger, on a disk or an object store."""

from prismkd.shards.claim import claim
from prismkd.shards.ledger import (
    Scan,
    ShardRecord,
    committed_shards,
    drop_shard,
    give_up,
    is_begun,
    is_committed,
    scan,
    try_again,
    write_shard,
)
from prismkd.shards.manifest import Folder, Manifest, differences, read_manifest, storage_of
from prismkd.shards.reading import finished, load_arrays, read_encoded, read_samples, read_shard
from prismkd.shards.samples import FORMATS, PNG, Encoded, Encoding, Sample, channels_first, to_array
from prismkd.shards.storage import Storage
from prismkd.shards.verification import Finding, clear, inspect, verify, whole

__all__ = [
    "FORMATS",
    "PNG",
    "Encoded",
    "Encoding",
    "Finding",
    "Folder",
    "Manifest",
    "Sample",
    "Scan",
    "ShardRecord",
    "Storage",
    "channels_first",
    "claim",
    "clear",
    "committed_shards",
    "differences",
    "drop_shard",
    "finished",
    "give_up",
    "inspect",
    "is_begun",
    "is_committed",
    "load_arrays",
    "read_encoded",
    "read_manifest",
    "read_samples",
    "read_shard",
    "scan",
    "storage_of",
    "to_array",
    "try_again",
    "verify",
    "whole",
    "write_shard",
]
