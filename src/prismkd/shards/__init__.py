"""The on-disk format of synthesized images: webdataset shards with a ledger, on a disk or an object store."""

from prismkd.shards.claim import claim
from prismkd.shards.ledger import (
    Scan,
    clear_failures,
    committed_shards,
    drop_shard,
    is_begun,
    is_committed,
    record_failure,
    scan,
    write_shard,
)
from prismkd.shards.manifest import Folder, Manifest, differing_keys, read_manifest, storage_of
from prismkd.shards.reading import read_encoded, read_samples, read_shard
from prismkd.shards.samples import FORMATS, PNG, Encoded, Encoding, Sample, channels_first, stacked, to_array
from prismkd.shards.storage import Storage
from prismkd.shards.verification import Finding, discard_broken, inspect, verified, verify

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
    "Storage",
    "channels_first",
    "claim",
    "clear_failures",
    "committed_shards",
    "differing_keys",
    "discard_broken",
    "drop_shard",
    "inspect",
    "is_begun",
    "is_committed",
    "read_encoded",
    "read_manifest",
    "read_samples",
    "read_shard",
    "record_failure",
    "scan",
    "stacked",
    "storage_of",
    "to_array",
    "verified",
    "verify",
    "write_shard",
]
