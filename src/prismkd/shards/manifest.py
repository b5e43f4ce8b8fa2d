"""The manifest of a data set, ``dataset.json``: what determines its images, how many they are, and where shards end.

It is written before the first image, so that every worker, and every later command, agrees on which image is in which
shard without asking another.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from prismkd.errors import UserError
from prismkd.files import parse_document
from prismkd.shards.samples import PNG, Encoding
from prismkd.shards.storage import Storage
from prismkd.text import shortened

MANIFEST = "dataset.json"
MAX_SHARDS = 10**6
WRITE_AGAIN = "delete it and give the same command again, which writes it anew"
Folder = Storage | Path | str
Count = Annotated[int, Meta(ge=1, le=2**53)]


@dataclass(frozen=True)
class Manifest:
    """What a data set is to hold.

    Attributes:
        identity: whatever determines the images, by name; two manifests with equal identities draw the same images.
        ends: ascending numbers of images at which a shard has to end, whatever its size: a pilot's, each round's, and
            the data set's each time when it was extended.
        shard_size: images per shard; the last one before each end may have fewer.
        classes: the names of the labels.
        encoding: of the images.
    """

    identity: dict[str, Any]
    ends: tuple[int, ...]
    shard_size: int
    classes: tuple[str, ...]
    encoding: Encoding = PNG

    @property
    def num_images(self) -> int:
        """The number of images when all are drawn."""
        return self.ends[-1]

    @property
    def plan_hash(self) -> str:
        """A digest of all that determines the bytes of a shard; every commit record holds it.

        The number of images is no part of it, so that a data set can be extended without drawing anything again.
        """
        determines = [self.identity, self.shard_size, asdict(self.encoding)]
        # 64 bits: it tells a user's plans apart and guards against mistakes, not against forgery
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def ranges(self) -> list[range]:
        """The indices of the images of each shard, by its number."""
        # Each part between two ends is cut by itself. So a pilot is complete when its own shards are, and a shard that
        # is drawn keeps its images when the data set is extended, even one that is not full.
        starts = (0, *self.ends)
        parts = [range(start, end) for start, end in zip(starts, self.ends, strict=False)]
        return [part[at : at + self.shard_size] for part in parts for at in range(0, len(part), self.shard_size)]

    def missing(self, present: Collection[int]) -> list[int]:
        """Numbers of the plan's shards that aren't among those ``present``."""
        return [shard for shard in range(len(self.ranges)) if shard not in present]

    def extended(self, num_images: int) -> Manifest:
        """This manifest with more images behind the planned ones; unchanged where ``num_images`` isn't more."""
        # Fewer images are no error: who asks for them finds them there, and nothing that was paid for is thrown away
        return replace(self, ends=(*self.ends, num_images)) if num_images > self.num_images else self


class EncodingRecord(TypedDict):
    """``samples.Encoding`` in a manifest."""

    format: Literal["png", "webp", "jpeg"]
    quality: Annotated[int, Meta(ge=1, le=100)]


class ManifestRecord(TypedDict):
    """``dataset.json``: the fields of ``Manifest``."""

    identity: dict[str, Any]
    ends: Annotated[list[Count], Meta(min_length=1)]
    shard_size: Count
    classes: list[Annotated[str, Meta(max_length=1000)]]
    encoding: EncodingRecord


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest of a data set; None where there is none.

    Raises:
        UserError: the file is damaged, or was changed to something that no data set can have.
    """
    storage, name = storage_of(folder), storage_of(folder) / MANIFEST
    try:
        data = parse_document(storage.read(MANIFEST), ManifestRecord, name, remedy=WRITE_AGAIN)
    except FileNotFoundError:
        return None
    ends, shard_size = data["ends"], data["shard_size"]
    # A damaged file that is still JSON could otherwise make a data set that never ends
    if not _is_increasing((0, *ends)) or ends[-1] // shard_size + len(ends) > MAX_SHARDS:
        raise UserError(
            f"expected ascending ends of at most {MAX_SHARDS:,} shards in {name}, got {shortened(ends)} with shards of "
            f"{shard_size}; {WRITE_AGAIN}"
        )
    encoding = Encoding(data["encoding"]["format"], data["encoding"]["quality"])
    return Manifest(data["identity"], tuple(ends), shard_size, tuple(data["classes"]), encoding)


def _is_increasing(numbers: tuple[int, ...]) -> bool:
    """Whether there are two numbers or more, each greater than the one before."""
    return len(numbers) > 1 and all(low < high for low, high in itertools.pairwise(numbers))


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys, such as ``guidance.strength``, whose values differ in two nested dictionaries; sorted.

    A key that only one of them has counts as None in the other.
    """
    names = []
    for key in sorted(old.keys() | new.keys()):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            names += differing_keys(old[key], new[key], f"{prefix}{key}.")
        elif old.get(key) != new.get(key):
            names.append(prefix + key)
    return names


def storage_of(folder: Folder) -> Storage:
    """A folder or URL as ``Storage``, which itself stays as it is."""
    return folder if isinstance(folder, Storage) else Storage(folder)
