"""One labeled image, and a tar of them: what webdataset, Hugging Face datasets and timm read as it is.

A tar holds three members per sample: ``000000123.png`` (or ``webp``, ``jpg``), ``000000123.cls`` (the label as text)
and ``000000123.json`` (the metadata). Nothing in it depends on the clock or the user: the same samples give the same
bytes, as long as Pillow's encoders stay the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from prismkd.errors import UserError

FORMATS = {"png": "png", "webp": "webp", "jpeg": "jpg"}  # name -> file extension
NUM_ENCODERS, LOOKAHEAD = 2, 128  # threads that encode while the next batch is drawn; images that wait at most


@dataclass(frozen=True, eq=False)
class Sample:
    """One labeled image: ``image`` is uint8, (height, width) or (height, width, 3); ``metadata`` must fit in JSON."""

    index: int
    image: np.ndarray
    label: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Encoding:
    """How images are stored: ``png`` and ``webp`` at quality 100 lose nothing."""

    format: str = "png"
    quality: int = 95


PNG = Encoding()


@dataclass(frozen=True)
class Encoded:
    """A sample as it is stored: the image's file with its extension, the label, and the metadata."""

    index: int
    extension: str
    contents: bytes
    label: int
    metadata: dict[str, Any]


def pack(samples: Iterable[Sample | Encoded], file: BinaryIO, encoding: Encoding) -> int:
    """Write a tar and return the number of samples; images are encoded in other threads than they are drawn in."""
    count, pending = 0, deque[Future[Encoded]]()
    with (
        ThreadPoolExecutor(NUM_ENCODERS) as pool,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for sample in samples:
            if isinstance(sample, Sample):
                check_image(sample)
            pending.append(pool.submit(encode, sample, encoding))
            count += 1
            while len(pending) > LOOKAHEAD or (pending and pending[0].done()):
                _add(tar, pending.popleft().result())
        while pending:
            _add(tar, pending.popleft().result())
    return count


def unpack(file: BinaryIO) -> Iterator[Encoded]:
    """The samples of a tar, in its order; it is read as a stream.

    Raises:
        tarfile.TarError, ValueError: it is none of ours, or damaged.
    """
    extensions = tuple(f".{extension}" for extension in FORMATS.values())
    with tarfile.open(fileobj=file, mode="r|") as tar:
        while (member := tar.next()) is not None:
            if member.name.endswith(extensions):
                key, _, extension = member.name.partition(".")
                contents, label, metadata = _body(tar, member), _body(tar, tar.next()), _body(tar, tar.next())
                yield Encoded(int(key), extension, contents, int(label), json.loads(metadata))


def encode(sample: Sample | Encoded, encoding: Encoding) -> Encoded:
    """A sample as it is stored; ``mode`` in its metadata says what to convert it back to (WebP knows no grey)."""
    if isinstance(sample, Encoded):
        return sample
    contents, mode = image_file(sample.image, encoding)
    metadata = sample.metadata | {"index": sample.index, "sha256": hashlib.sha256(contents).hexdigest()}
    metadata |= {"mode": mode} if mode else {}
    return Encoded(sample.index, FORMATS[encoding.format], contents, sample.label, metadata)


def decode(sample: Encoded) -> Sample:
    """The inverse of ``encode``."""
    picture = Image.open(io.BytesIO(sample.contents))
    mode = sample.metadata.get("mode", picture.mode)
    image = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    return Sample(sample.index, image, sample.label, sample.metadata)


def _body(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    file = tar.extractfile(member) if member is not None else None
    if file is None:
        raise tarfile.ReadError("a sample without its image, label or metadata")
    return file.read()


def _add(tar: tarfile.TarFile, sample: Encoded) -> None:
    """A fresh TarInfo has mtime, uid and gid 0 and no user name."""
    members = (
        (sample.extension, sample.contents),
        ("cls", str(sample.label).encode()),
        ("json", json.dumps(sample.metadata, sort_keys=True).encode()),
    )
    for extension, contents in members:
        member = tarfile.TarInfo(f"{sample.index:09d}.{extension}")
        member.size = len(contents)
        tar.addfile(member, io.BytesIO(contents))


def image_file(image: np.ndarray, encoding: Encoding) -> tuple[bytes, str]:
    """The file of an image, and the mode to convert it back to where the format can't keep it (grey in WebP)."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if encoding.format == "png":
        picture.save(buffer, format="PNG")
    elif encoding.format == "webp":
        picture.save(buffer, format="WEBP", quality=encoding.quality, lossless=encoding.quality == 100)
        return buffer.getvalue(), "L" if picture.mode == "L" else ""
    else:
        picture.save(buffer, format="JPEG", quality=encoding.quality, subsampling=0)
    return buffer.getvalue(), ""


def check_image(sample: Sample) -> None:
    """Refuse what can't be stored.

    Raises:
        UserError: the image is not uint8 (height, width) or (height, width, 3).
    """
    image = sample.image
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            f"expected image {sample.index} as uint8 (height, width) or (height, width, 3), "
            f"got {image.dtype} {image.shape}; do convert it with (255 * image).round().astype(np.uint8)"
        )


def to_array(sample: Sample) -> np.ndarray:
    """The image as float32 (channels, height, width) in [0, 1]."""
    return np.ascontiguousarray(channels_first(sample.image), dtype=np.float32) / 255


def channels_first(image: np.ndarray) -> np.ndarray:
    """(height, width) or (height, width, channels) as (channels, height, width)."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
