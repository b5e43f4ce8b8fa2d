"""The on-disk format of synthesized images: webdataset shards, each with a commit record.

A shard is ``shard-000000.tar`` with three members per sample: ``000000123.png`` (8 bit), ``000000123.cls`` (the label
as text) and ``000000123.json`` (the metadata). ``shard-000000.json`` beside it is its commit record. Only a shard with
a commit record counts: both files are replaced atomically, the record last, so that a crash at any moment leaves either
a whole shard or no shard. Nothing in a tar depends on the clock or the user: the same samples give the same sha256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from prismkd.errors import UserError


@dataclass(frozen=True, eq=False)
class Sample:
    """One labeled image: ``image`` is uint8, (height, width) or (height, width, 3); ``metadata`` must fit in JSON."""

    index: int
    image: np.ndarray
    label: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class ShardRecord:
    """The commit record of one shard: sha256 and size in bytes of its tar, and its number of samples."""

    shard: int
    sha256: str
    bytes: int
    count: int
    plan_hash: str


def write_shard(folder: Path, shard: int, samples: Iterable[Sample], plan_hash: str) -> ShardRecord:
    """Write and commit one shard; a shard that is committed already stays, and its ``samples`` are not drawn.

    Workers may share ``folder``, each with its own shards: a writer removes only its own shard's leftovers.
    The metadata is stored with the sample's index under "index". PNG bytes may differ between versions of Pillow.

    Raises:
        UserError: the shard is committed with another plan hash, or an image is not uint8 (h, w) or (h, w, 3).
    """
    if is_committed(folder, shard, plan_hash):
        return _read_record(_record_path(folder, shard))
    folder.mkdir(parents=True, exist_ok=True)
    tar_path = _tar_path(folder, shard)
    for leftover in folder.glob(f".tmp-{tar_path.stem}.*"):
        leftover.unlink()

    with _replacing(tar_path) as file:
        count = _pack(samples, file)
    record = ShardRecord(shard, _sha256(tar_path), tar_path.stat().st_size, count, plan_hash)
    with _replacing(_record_path(folder, shard)) as file:
        file.write(json.dumps(asdict(record), indent=2).encode())
    return record


def is_committed(folder: Path, shard: int, plan_hash: str) -> bool:
    """Whether the shard has a commit record. Raises UserError where that record belongs to another plan."""
    path = _record_path(folder, shard)
    if not path.exists():
        return False
    got = _read_record(path).plan_hash
    if got != plan_hash:
        raise UserError(
            f"expected plan hash {plan_hash}, got {got} in {path}: its images were made from another plan; "
            f"write to a new folder, or delete {folder} to make the images again"
        )
    return True


def committed_shards(folder: Path) -> list[int]:
    """The numbers of the committed shards, ascending; empty where the folder has none."""
    return [record.shard for record in _records(folder)]


def verify(folder: Path) -> int:
    """Read every committed shard again and return the number of samples in them, for comparison with the plan.

    Raises:
        UserError: names the file whose size, sha256 or number of samples is not the recorded one, or whose plan
            differs from the first shard's.
    """
    records = _records(folder)
    for record in records:
        is_committed(folder, record.shard, records[0].plan_hash)  # raises where one folder mixes two plans
        path = _checked_tar_path(folder, record)
        if (sha256 := _sha256(path)) != record.sha256:
            raise _damaged(path, f"sha256 {record.sha256}", sha256)
        with tarfile.open(path) as tar:
            count = sum(name.endswith(".png") for name in tar.getnames())
        if count != record.count:
            raise _damaged(path, f"{record.count} samples", str(count))
    return sum(record.count for record in records)


def read_samples(folder: Path) -> Iterator[Sample]:
    """The samples of all committed shards, in the order of the shards. Checks sizes; ``verify`` checks every byte.

    Raises:
        UserError: a tar is missing or has not the recorded size.
    """
    for record in _records(folder):
        with tarfile.open(_checked_tar_path(folder, record)) as tar:
            members = ((member.name, tar.extractfile(member).read()) for member in tar)  # type: ignore[union-attr]
            for (name, png), (_, label), (_, metadata) in zip(members, members, members, strict=True):
                yield Sample(
                    index=int(name.removesuffix(".png")),
                    image=np.asarray(Image.open(io.BytesIO(png))),
                    label=int(label),
                    metadata=json.loads(metadata),
                )


def load_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """All committed samples in memory: images float32 (n, channels, height, width) in [0, 1], labels int64, metadata.

    Raises:
        UserError: there is no committed shard, or the images differ in shape.
    """
    samples = list(read_samples(folder))
    shapes = {sample.image.shape for sample in samples}
    if len(shapes) != 1:
        raise UserError(
            f"expected images of one shape in {folder}, got {sorted(shapes) or 'no committed sample'}; "
            "do finish the synthesis, or read the images one by one with read_samples"
        )
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return np.stack([to_array(sample) for sample in samples]), labels, [sample.metadata for sample in samples]


def to_array(sample: Sample) -> np.ndarray:
    """The image as float32 (channels, height, width) in [0, 1]."""
    image = sample.image[None] if sample.image.ndim == 2 else sample.image.transpose(2, 0, 1)
    return np.ascontiguousarray(image, dtype=np.float32) / 255


def _tar_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.tar"


def _record_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.json"


def _records(folder: Path) -> list[ShardRecord]:
    return sorted((_read_record(path) for path in folder.glob("shard-*.json")), key=lambda record: record.shard)


def _read_record(path: Path) -> ShardRecord:
    try:
        return ShardRecord(**json.loads(path.read_bytes()))
    except (TypeError, ValueError) as error:
        raise _damaged(path, "a commit record", str(error)) from error


def _checked_tar_path(folder: Path, record: ShardRecord) -> Path:
    path = _tar_path(folder, record.shard)
    size = path.stat().st_size if path.exists() else None
    if size != record.bytes:
        raise _damaged(path, f"{record.bytes} bytes", "no file" if size is None else f"{size} bytes")
    return path


def _damaged(path: Path, expected: str, got: str) -> UserError:
    return UserError(
        f"expected {expected} in {path}, got {got}: the shard is damaged; "
        f"delete {path.with_suffix('.json')} and run the same command again to remake it"
    )


def _pack(samples: Iterable[Sample], file: BinaryIO) -> int:
    """Write the samples as a tar and return their number. A fresh TarInfo has mtime, uid and gid 0 and no user name."""
    count = 0
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            metadata = sample.metadata | {"index": sample.index}
            members = {
                "png": _encode_png(sample),
                "cls": str(sample.label).encode(),
                "json": json.dumps(metadata, sort_keys=True).encode(),
            }
            for extension, contents in members.items():
                member = tarfile.TarInfo(f"{sample.index:09d}.{extension}")
                member.size = len(contents)
                tar.addfile(member, io.BytesIO(contents))
            count += 1
    return count


def _encode_png(sample: Sample) -> bytes:
    image = sample.image
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            f"expected image {sample.index} as uint8 (height, width) or (height, width, 3), "
            f"got {image.dtype} {image.shape}; do convert it with (255 * image).round().astype(np.uint8)"
        )
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears at ``path`` all at once, and is on the disk when the block ends."""
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the rename itself
    finally:
        os.close(descriptor)
