"""A finished data set in another layout, and several data sets as one. Images keep their bytes in both."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from prismkd.errors import UserError
from prismkd.files import check_no_link_out, is_used, remove_temporary_files
from prismkd.files.write import UNFINISHED
from prismkd.shards import (
    Encoded,
    Manifest,
    Scan,
    Storage,
    claim,
    read_encoded,
    read_manifest,
    read_shard,
    scan,
    verified,
    write_shard,
)
from prismkd.shards.card import card, write_card
from prismkd.shards.ledger import tar_name

CountImages = Callable[[int], None]  # called with the number of images just copied
MAX_SLUG = 60  # characters of a class name in a folder's name


def export(source: Storage, layout: str, destination: Storage, progress: CountImages) -> int:
    """Copy a finished data set to another layout. An export that was stopped is done again from the start.

    Args:
        source: the data set.
        layout: ``imagefolder`` (a folder per class, as torchvision and timm read it), ``hf`` (Parquet, as Hugging Face
            datasets read it) or ``webdataset`` (the shards as they are, without the ledger).
        destination: a new or empty folder, or one with a stopped export of the same data set to the same layout.
        progress: called with the number of images just copied.

    Returns:
        The number of images.

    Raises:
        UserError: the data set isn't finished or is damaged, a link leads out of it, or ``destination`` holds other
            files.
    """
    _check_no_link_out(source)
    manifest, ledger = verified(source)  # every byte is read, so that no damage is handed on
    mark = f"{layout} {_digest(ledger)}".encode()
    stopped = destination.exists(UNFINISHED) and destination.read(UNFINISHED) == mark
    if not stopped:
        _check_unused(destination, "export")
    if destination.local is not None:
        remove_temporary_files(destination.local)
    # From here to the end the destination is known as ours, and names layout and source, so that another try may write
    # over it
    destination.write(UNFINISHED, mark)
    writers = {"imagefolder": _to_imagefolder, "hf": _to_parquet, "webdataset": _to_webdataset}
    writers[layout](source, manifest, ledger, destination, progress)
    destination.remove(UNFINISHED)
    return ledger.num_images


def _check_unused(destination: Storage, purpose: str) -> None:
    """Refuse a destination that holds files of the user's, or of another export or merge."""
    if destination.sizes() if destination.local is None else is_used(destination.local):
        raise UserError(f"expected a new or empty folder to {purpose} to, got {destination.url}; choose another --dest")


def _check_no_link_out(source: Storage) -> None:
    """Refuse a data set whose files may be others than they seem: what is exported may be published."""
    if source.local is not None:
        check_no_link_out(source.local)


# --- layouts -----------------------------------------------------------------------------------------------------


def _to_imagefolder(source: Storage, manifest: Manifest, ledger: Scan, to: Storage, progress: CountImages) -> None:
    """Files such as ``train/0007-mouse/000000123.png``; ``provenance.jsonl`` has the metadata of each.

    torchvision and timm number the classes by sorting the folders' names, hence the label in front, with zeros.
    """
    folders = [folder_name(label, name, len(manifest.classes)) for label, name in enumerate(manifest.classes)]
    with to.writing("provenance.jsonl") as rows:
        for sample in read_encoded(source):
            name = f"train/{folders[sample.label]}/{sample.index:09d}.{sample.extension}"
            to.write(name, sample.contents, sync=False)
            row = {"file": name, "label": sample.label, **sample.metadata}
            rows.write((json.dumps(row, sort_keys=True) + "\n").encode())
            progress(1)
    to.write("classes.txt", "".join(f"{folder}\n" for folder in folders).encode())


def folder_name(label: int, name: str, num_classes: int) -> str:
    """A class's folder, valid on any system: its label with leading zeros, and what ASCII can keep of its name."""
    # Not matching.normalize: this is a file name, of which the label alone tells the class. NFKD takes an accent apart
    # from its letter, so that the letter stays when ASCII drops the accent.
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:MAX_SLUG].strip("-")
    number = str(label).zfill(len(str(num_classes - 1)))
    return f"{number}-{slug}" if slug else number  # a name in Chinese leaves nothing


def _to_parquet(source: Storage, manifest: Manifest, ledger: Scan, to: Storage, progress: CountImages) -> None:
    """Files such as ``data/train-00000-of-00009.parquet``, one per shard, and the card.

    The columns are image, label and metadata. The schema's ``huggingface`` metadata says that an image is one, which
    ``datasets`` decodes, and what the labels are called.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(manifest.classes)},
        "metadata": {"dtype": "string", "_type": "Value"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    head = json.dumps({"info": {"features": features}}).encode()
    # Metadata as one JSON text and not as columns: its fields differ by method, and a Parquet data set has one schema
    schema = pa.schema([("image", image), ("label", pa.int64()), ("metadata", pa.string())], {b"huggingface": head})
    for number, (shard, record) in enumerate(ledger.records.items()):
        rows: list[dict[str, Any]] = []
        for sample in read_shard(source, shard, manifest, record.count):
            file = {"bytes": sample.contents, "path": f"{sample.index:09d}.{sample.extension}"}
            metadata = json.dumps(sample.metadata, sort_keys=True)
            rows.append({"image": file, "label": sample.label, "metadata": metadata})
        with to.writing(f"data/train-{number:05d}-of-{len(ledger.records):05d}.parquet") as target:
            pq.write_table(pa.Table.from_pylist(rows, schema), target)
        progress(len(rows))
    to.write("README.md", card(manifest, ledger, "export", "data/train-*.parquet").encode())


def _to_webdataset(source: Storage, manifest: Manifest, ledger: Scan, to: Storage, progress: CountImages) -> None:
    """The tars byte for byte, with the card and timm's ``_info.json``."""
    for shard, record in ledger.records.items():
        with source.reading(tar_name(shard)) as tar, to.writing(tar_name(shard)) as target:
            while chunk := tar.read(2**22):
                target.write(chunk)
        progress(record.count)
    write_card(to, manifest, ledger, "export")


# --- merging -----------------------------------------------------------------------------------------------------


def merge(sources: Sequence[Storage], destination: Storage, progress: CountImages) -> int:
    """Copy several finished data sets of the same classes into one, which numbers the images anew.

    The result is a data set with a manifest and a ledger like any other, so a merge that was stopped goes on where it
    was.

    Args:
        sources: two or more data sets, in the order that their images are to have.
        destination: a new or empty folder, or one with a stopped merge of the same sources.
        progress: called with the number of images just copied.

    Returns:
        The number of images.

    Raises:
        UserError: a source isn't finished, has other classes, or a link leads out of it; or ``destination`` holds
            something else.
    """
    parts = _mergeable(sources)
    first, _ = parts[0]
    identity = {"merged": [{"folder": source.url, "plan": manifest.plan_hash, "shards": _digest(ledger)}
                           for source, (manifest, ledger) in zip(sources, parts, strict=True)]}  # fmt: skip
    count = sum(ledger.num_images for _, ledger in parts)
    # The first source's encoding stands in the manifest, though the images of all keep theirs: each member of a tar
    # says its own by its file extension
    if read_manifest(destination) is None:
        _check_unused(destination, "merge")
    manifest = claim(destination, Manifest(identity, (count,), first.shard_size, first.classes, first.encoding))
    samples = _renumbered(sources)
    for shard, indices in enumerate(manifest.ranges):
        # Taken from the iterator even where the shard is committed already, to come to the next one's
        shard_samples = list(islice(samples, len(indices)))
        write_shard(destination, shard, shard_samples, manifest.plan_hash)
        progress(len(shard_samples))
    write_card(destination, manifest, scan(destination), f"merged from {len(sources)}")
    return count


def _mergeable(sources: Sequence[Storage]) -> list[tuple[Manifest, Scan]]:
    """Manifest and ledger of each source; refuses what can't be merged."""
    # Resolved, since one folder under two names would come twice into the training data
    folders = {source.local.resolve() if source.local else source.url for source in sources}
    if len(folders) < 2 or len(folders) < len(sources):
        raise UserError(
            f"expected two or more data sets to merge, each once, got {[s.url for s in sources]}; name them"
        )
    for source in sources:
        _check_no_link_out(source)
    parts = [verified(source) for source in sources]
    first, _ = parts[0]
    for source, (manifest, _) in zip(sources, parts, strict=True):
        if manifest.classes != first.classes:  # in order too: the samples keep their labels
            raise UserError(
                f"expected the classes of {sources[0].url} in {source.url} too, got others; merge data sets of one "
                "class list"
            )
    return parts


def _digest(ledger: Scan) -> str:
    """A digest of all bytes of a data set, by the hashes in its commit records."""
    return hashlib.sha256("".join(record.sha256 for record in ledger.records.values()).encode()).hexdigest()[:16]


def _renumbered(sources: Sequence[Storage]) -> Iterator[Encoded]:
    """The samples of all sources with new indices; their metadata say which source and index they had."""
    index = 0
    for source_number, source in enumerate(sources):
        for sample in read_encoded(source):
            metadata = sample.metadata | {"index": index, "source": source_number, "source_index": sample.index}
            yield Encoded(index, sample.extension, sample.contents, sample.label, metadata, sample.logits)
            index += 1
