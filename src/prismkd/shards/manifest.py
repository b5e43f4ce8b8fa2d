"""The manifest of a data set, ``dataset.json``: what determines its images, how many they are, and where shards end."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.shards.samples import PNG, Encoding
from prismkd.shards.storage import Storage

MANIFEST = "dataset.json"
Folder = Storage | Path | str


@dataclass(frozen=True)
class Manifest:
    """The plan of a data set.

    Attributes:
        identity: whatever determines the images, by name; two manifests with equal identities draw the same.
        ends: ascending numbers of images at which a shard has to end: a pilot's, and that of each appending.
        shard_size: images per shard.
        classes: the labels' names.
    """

    identity: dict[str, Any]
    ends: tuple[int, ...]
    shard_size: int
    classes: tuple[str, ...]
    encoding: Encoding = PNG

    @property
    def num_images(self) -> int:
        """All images of the plan."""
        return self.ends[-1]

    @property
    def plan_hash(self) -> str:
        """A digest of what determines the images."""
        found = [self.identity, self.shard_size, asdict(self.encoding)]
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def ranges(self) -> list[range]:
        """The indices of each shard."""
        starts = (0, *self.ends)
        parts = [range(start, end) for start, end in zip(starts, self.ends, strict=False)]
        return [part[at : at + self.shard_size] for part in parts for at in range(0, len(part), self.shard_size)]

    def missing(self, present: Collection[int]) -> list[int]:
        """Numbers of the plan's shards that aren't among those ``present``."""
        return [shard for shard in range(len(self.ranges)) if shard not in present]

    def extended(self, num_images: int) -> Manifest:
        """With more images behind those that are there."""
        return replace(self, ends=(*self.ends, num_images)) if num_images > self.num_images else self


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest of a data set, or None where there is none.

    Raises:
        UserError: it is damaged.
    """
    storage = storage_of(folder)
    try:
        data = json.loads(storage.read(MANIFEST))
        manifest = Manifest(data["identity"], tuple(data["ends"]), data["shard_size"], tuple(data["classes"]),
                            Encoding(**data["encoding"]))  # fmt: skip
        if not (_rise((0, *manifest.ends)) and manifest.shard_size > 0 and isinstance(manifest.identity, dict)):
            raise ValueError(f"ends {manifest.ends} of shards of {manifest.shard_size}")
        return manifest
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"expected a manifest in {storage / MANIFEST}, got {type(error).__name__}: {error}; delete it and give the "
            "same command again, which writes it anew"
        ) from None


def _rise(numbers: tuple[int, ...]) -> bool:
    """Whether there are two or more, each above the last."""
    return len(numbers) > 1 and all(low < high for low, high in itertools.pairwise(numbers))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the values that differ."""
    names = []
    for key in sorted(old.keys() | new.keys()):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            names += differences(old[key], new[key], f"{prefix}{key}.")
        elif old.get(key) != new.get(key):
            names.append(prefix + key)
    return names


def storage_of(folder: Folder) -> Storage:
    """A folder or URL as storage."""
    return folder if isinstance(folder, Storage) else Storage(folder)
