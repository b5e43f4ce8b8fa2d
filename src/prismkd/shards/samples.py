"""One labeled image, and a tar of many, as webdataset, Hugging Face datasets and timm read them.

A tar holds three members per sample: ``000000123.png`` (or ``webp``, ``jpg``), ``000000123.cls`` (the label as text)
and ``000000123.json`` (the metadata); and behind the image ``000000123.logits.npy`` (float16), where the teacher's
logits are kept. Nothing in it depends on the clock or the user: the same samples give the same
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

FORMATS = {"png": "png", "webp": "webp", "jpeg": "jpg"}  # format -> file extension
LOGITS = "logits.npy"  # what webdataset decodes to an array
NUM_ENCODERS = 2  # threads: Pillow encodes outside of Python's lock, so that the next batch is drawn meanwhile
LOOKAHEAD = 128  # images that may wait for an encoder or for the tar; bounds the memory where drawing is the quicker


@dataclass(frozen=True, eq=False)
class Sample:
    """One labeled image, decoded.

    Attributes:
        index: in the data set, and of its prompt in the plan.
        image: uint8, (height, width) or (height, width, 3).
        label: of the class that it was drawn for.
        metadata: plain data that fits in JSON: prompt, style, seed, energies and so on.
        logits: the teacher's of this image (classes,), where they are kept; stored as float16.
    """

    index: int
    image: np.ndarray
    label: int
    metadata: dict[str, Any]
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Attributes:
        format: one of ``FORMATS``; ``png``, and ``webp`` at quality 100, keep every pixel.
        quality: 1 to 100, of webp and jpeg.
    """

    format: str = "png"
    quality: int = 95


PNG = Encoding()


@dataclass(frozen=True)
class Encoded:
    """One labeled image as it is stored.

    Attributes:
        index: as of ``Sample``.
        extension: of the image file, one of the values of ``FORMATS``.
        contents: of the image file.
        label: as of ``Sample``.
        metadata: as of ``Sample``, with the index, the file's sha256 and, for gray WebP, the mode.
        logits: as of ``Sample``, in float16.
    """

    index: int
    extension: str
    contents: bytes
    label: int
    metadata: dict[str, Any]
    logits: np.ndarray | None = None


def pack(samples: Iterable[Sample | Encoded], file: BinaryIO, encoding: Encoding) -> int:
    """Write a tar of samples, and return their number.

    Samples are taken from the iterator in this thread, and encoded in others.

    Raises:
        UserError: an image that isn't uint8 (height, width) or (height, width, 3).
    """
    count, pending = 0, deque[Future[Encoded]]()
    with (
        ThreadPoolExecutor(NUM_ENCODERS) as pool,
        # USTAR is the plainest format: names of 100 bytes suffice, and no extended header holds a clock or a user
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        try:
            for sample in samples:
                if isinstance(sample, Sample):
                    check_image(sample)  # here, where the error stops the drawing, not in an encoder 128 images later
                pending.append(pool.submit(encode, sample, encoding))
                count += 1
                # In the order in which they were drawn, whoever is encoded first: the bytes must not depend on threads
                while len(pending) > LOOKAHEAD or (pending and pending[0].done()):
                    _add(tar, pending.popleft().result())
            while pending:
                _add(tar, pending.popleft().result())
        finally:
            for future in pending:  # after an error or an interruption nobody needs them
                future.cancel()
    return count


def unpack(file: BinaryIO) -> Iterator[Encoded]:
    """The samples of a tar, in its order, read as a stream: nothing is sought, so an object store can serve it.

    Raises:
        tarfile.TarError, ValueError: the tar is damaged, or not one that ``pack`` wrote.
    """
    extensions = tuple(f".{extension}" for extension in FORMATS.values())
    with tarfile.open(fileobj=file, mode="r|") as tar:
        while (member := tar.next()) is not None:
            # In every sample of ours the image comes first, then logits if there are some, the label and the metadata
            if member.name.endswith(extensions):
                key, _, extension = member.name.partition(".")
                contents, follower, logits = _body(tar, member), tar.next(), None
                if follower is not None and follower.name.endswith(f".{LOGITS}"):
                    logits, follower = _from_npy(_body(tar, follower)), tar.next()
                label, metadata = _body(tar, follower), _body(tar, tar.next())
                yield Encoded(int(key), extension, contents, int(label), json.loads(metadata), logits)


def encode(sample: Sample | Encoded, encoding: Encoding) -> Encoded:
    """A sample as it is stored. An encoded one stays as it is, so that a copied data set keeps its bytes."""
    if isinstance(sample, Encoded):
        return sample
    contents, mode = encode_image(sample.image, encoding)
    metadata = sample.metadata | {"index": sample.index, "sha256": hashlib.sha256(contents).hexdigest()}
    metadata |= {"mode": mode} if mode else {}
    logits = None if sample.logits is None else sample.logits.astype(np.float16)
    return Encoded(sample.index, FORMATS[encoding.format], contents, sample.label, metadata, logits)


def decode(sample: Encoded) -> Sample:
    """The sample with its image decoded, in the shape that it had before ``encode``."""
    picture = Image.open(io.BytesIO(sample.contents))
    mode = sample.metadata.get("mode", picture.mode)
    image = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    return Sample(sample.index, image, sample.label, sample.metadata, sample.logits)


def _body(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    """The contents of a tar's member; None stands for the end of the tar."""
    file = tar.extractfile(member) if member is not None else None
    if file is None:
        raise tarfile.ReadError("a sample without its image, label or metadata")
    return file.read()


def _add(tar: tarfile.TarFile, sample: Encoded) -> None:
    """Add a sample's members to a tar."""
    members = (
        (sample.extension, sample.contents),
        *(() if sample.logits is None else [(LOGITS, _to_npy(sample.logits))]),
        ("cls", str(sample.label).encode()),
        ("json", json.dumps(sample.metadata, sort_keys=True).encode()),
    )
    for extension, contents in members:
        # Made afresh and not from a file: its mtime, uid and gid are 0 and it has no user name, the same on any machine
        member = tarfile.TarInfo(f"{sample.index:09d}.{extension}")
        member.size = len(contents)
        tar.addfile(member, io.BytesIO(contents))


def _to_npy(logits: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, logits, allow_pickle=False)
    return buffer.getvalue()


def _from_npy(contents: bytes) -> np.ndarray:
    return np.load(io.BytesIO(contents), allow_pickle=False)


def encode_image(image: np.ndarray, encoding: Encoding) -> tuple[bytes, str]:
    """An image as the contents of a file, and the mode to convert it back to: L for gray in WebP, else empty.

    Args:
        image: uint8, (height, width) or (height, width, 3).
        encoding: format and quality.
    """
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if encoding.format == "png":
        picture.save(buffer, format="PNG")
    elif encoding.format == "webp":
        picture.save(buffer, format="WEBP", quality=encoding.quality, lossless=encoding.quality == 100)
        return buffer.getvalue(), "L" if picture.mode == "L" else ""  # WebP has no gray, and gives back RGB
    else:
        # Full chroma resolution: Pillow's usual 4:2:0 blurs the thin colored lines of icons
        picture.save(buffer, format="JPEG", quality=encoding.quality, subsampling=0)
    return buffer.getvalue(), ""


def check_image(sample: Sample) -> None:
    """Refuse an image that can't be stored, such as one of floats in [0, 1], which would become black.

    Raises:
        UserError: the image is not uint8 (height, width) or (height, width, 3).
    """
    image = sample.image
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            f"expected image {sample.index} as uint8 (height, width) or (height, width, 3), "
            f"got {image.dtype} {image.shape}; convert it with (255 * image).round().astype(np.uint8)"
        )


def to_array(sample: Sample) -> np.ndarray:
    """A sample's image as networks take it: float32 (channels, height, width) in [0, 1]."""
    return np.ascontiguousarray(channels_first(sample.image), dtype=np.float32) / 255


def channels_first(image: np.ndarray) -> np.ndarray:
    """An image (height, width) or (height, width, channels) as (channels, height, width), without a copy."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
