"""A data set in another layout, and several as one. Images keep their bytes."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from prismkd.errors import UserError
from prismkd.shards import (
    Encoded,
    Manifest,
    Scan,
    Storage,
    claim,
    read_encoded,
    read_shard,
    scan,
    whole,
    write_shard,
)
from prismkd.shards.card import card, write_card
from prismkd.shards.ledger import tar_name
from prismkd.shards.storage import is_used, remove_leftovers

Progress = Callable[[int], None]
UNFINISHED = "unfinished-export"  # says of what; gone when all is there
MAX_NAME = 60  # characters of a class name in a folder's name


def export(source: Storage, layout: str, destination: Storage, progress: Progress) -> int:
    """Copy a finished data set; returns the number of images. An export that was stopped goes on.

    Args:
        layout: ``imagefolder`` (a folder per class, as torchvision and timm read it), ``hf`` (Parquet, as Hugging Face
            datasets read it) or ``webdataset`` (the shards as they are, without the ledger).

    Raises:
        UserError: the data set isn't finished, or there are files in ``destination``.
    """
    manifest, found = whole(source)  # every byte is read, so that no damage leaves with them
    mark = f"{layout} {_digest(found)}".encode()
    stopped = destination.exists(UNFINISHED) and destination.read(UNFINISHED) == mark
    if not stopped and (destination.sizes() or (destination.local is not None and is_used(destination.local))):
        raise UserError(f"expected a new or empty folder to export to, got {destination.url}; choose another --dest")
    if stopped and destination.local is not None:
        remove_leftovers(destination.local)
    destination.write(UNFINISHED, mark)
    writers = {"imagefolder": _to_imagefolder, "hf": _to_parquet, "webdataset": _to_webdataset}
    writers[layout](source, manifest, found, destination, progress)
    destination.remove(UNFINISHED)
    return found.num_images


# --- layouts -----------------------------------------------------------------------------------------------------


def _to_imagefolder(source: Storage, manifest: Manifest, found: Scan, to: Storage, progress: Progress) -> None:
    """``train/0007-mouse/000000123.png``: sorted folders are in the order of the labels."""
    folders = [folder_name(label, name, len(manifest.classes)) for label, name in enumerate(manifest.classes)]
    with to.writing("provenance.jsonl") as rows:
        for sample in read_encoded(source):
            name = f"train/{folders[sample.label]}/{sample.index:09d}.{sample.extension}"
            to.put(name, sample.contents)
            row = {"file": name, "label": sample.label, **sample.metadata}
            rows.write((json.dumps(row, sort_keys=True) + "\n").encode())
            progress(1)
    to.write("classes.txt", "".join(f"{folder}\n" for folder in folders).encode())


def folder_name(label: int, name: str, num_classes: int) -> str:
    """A class as a folder on any system: its number, so that nothing else matters, and what can be kept of its name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_NAME].strip("-")
    number = str(label).zfill(len(str(num_classes - 1)))
    return f"{number}-{slug}" if slug else number


def _to_parquet(source: Storage, manifest: Manifest, found: Scan, to: Storage, progress: Progress) -> None:
    """``data/train-00000-of-00009.parquet`` with the columns image, label and metadata, and the card."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(manifest.classes)},
        "metadata": {"dtype": "string", "_type": "Value"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    head = json.dumps({"info": {"features": features}}).encode()
    schema = pa.schema([("image", image), ("label", pa.int64()), ("metadata", pa.string())], {b"huggingface": head})
    for place, shard in enumerate(found.records):
        rows: list[dict[str, Any]] = []
        for sample in read_shard(source, shard):
            file = {"bytes": sample.contents, "path": f"{sample.index:09d}.{sample.extension}"}
            metadata = json.dumps(sample.metadata, sort_keys=True)
            rows.append({"image": file, "label": sample.label, "metadata": metadata})
        with to.writing(f"data/train-{place:05d}-of-{len(found.records):05d}.parquet") as target:
            pq.write_table(pa.Table.from_pylist(rows, schema), target)
        progress(len(rows))
    to.write("README.md", card(manifest, found, "export", "data/train-*.parquet").encode())


def _to_webdataset(source: Storage, manifest: Manifest, found: Scan, to: Storage, progress: Progress) -> None:
    for shard, record in found.records.items():
        with source.reading(tar_name(shard)) as tar, to.writing(tar_name(shard)) as target:
            while chunk := tar.read(2**22):
                target.write(chunk)
        progress(record.count)
    write_card(to, manifest, found, "export")


# --- merging -----------------------------------------------------------------------------------------------------


def merge(sources: Sequence[Storage], destination: Storage, progress: Progress) -> int:
    """Several data sets of the same classes as one, numbered anew; a merge that was stopped goes on.

    Returns:
        The number of images.

    Raises:
        UserError: a source isn't finished, or its classes are others; or ``destination`` holds something else.
    """
    places = {source.local.resolve() if source.local else source.url for source in sources}
    if len(places) < 2 or len(places) < len(sources):
        raise UserError(
            f"expected two or more data sets to merge, each once, got {[s.url for s in sources]}; name them"
        )
    parts = [whole(source) for source in sources]
    classes = parts[0][0].classes
    for source, (manifest, _) in zip(sources, parts, strict=True):
        if manifest.classes != classes:
            raise UserError(
                f"expected the classes of {sources[0].url} in {source.url} too, got others; merge data sets of one "
                "class list"
            )
    identity = {"merged": [{"folder": source.url, "plan": manifest.plan_hash, "shards": _digest(found)}
                           for source, (manifest, found) in zip(sources, parts, strict=True)]}  # fmt: skip
    count = sum(found.num_images for _, found in parts)
    manifest = claim(destination, Manifest(identity, (count,), parts[0][0].shard_size, classes, parts[0][0].encoding))
    samples = _renumbered(sources)
    for shard, indices in enumerate(manifest.ranges):
        part = list(islice(samples, len(indices)))
        write_shard(destination, shard, part, manifest.plan_hash)
        progress(len(part))
    write_card(destination, manifest, scan(destination), f"merged from {len(sources)}")
    return count


def _digest(found: Scan) -> str:
    return hashlib.sha256("".join(record.sha256 for record in found.records.values()).encode()).hexdigest()[:16]


def _renumbered(sources: Sequence[Storage]) -> Iterator[Encoded]:
    index = 0
    for number, source in enumerate(sources):
        for sample in read_encoded(source):
            metadata = sample.metadata | {"index": index, "source": number, "source_index": sample.index}
            yield Encoded(index, sample.extension, sample.contents, sample.label, metadata)
            index += 1
