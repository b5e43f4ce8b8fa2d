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
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, TypedDict

import numpy as np
from PIL import Image

from prismkd.errors import UserError
from prismkd.files.documents import as_shape, parse_document
from prismkd.text import shortened

FORMATS = {"png": "png", "webp": "webp", "jpeg": "jpg"}  # format -> file extension
LOGITS = "logits.npy"  # what webdataset decodes to an array
MEMBER = re.compile(r"[0-9]{9,18}\.(png|webp|jpg|logits\.npy|cls|json)")
LABEL = re.compile(rb"[0-9]{1,9}")
MAX_BYTES = {"cls": 2**5, "json": 2**20, LOGITS: 2**24}  # of a member
MAX_IMAGE_BYTES = 2**28
MAX_PIXELS = 2**26  # of an image, 8192 x 8192: generators draw less, and a few bytes can unpack to any size
MODES = ("L", "RGB")  # what is stored
REPAIR = "`prismkd repair` draws it again"
DELETE = f"delete its shard, and {REPAIR}"  # where the shard's record fits what is wrong
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
        source: the image's full name, for errors.
    """

    index: int
    extension: str
    contents: bytes
    label: int
    metadata: dict[str, Any]
    logits: np.ndarray | None = None
    source: str = field(default="", compare=False)


class Metadata(TypedDict, total=False):
    """What readers rely on of a sample's metadata; the rest may be anything."""

    mode: Literal["L", "RGB"]
    prompt: str
    style: str
    teacher_top1: int
    log_probability: float
    energy_before: float | None
    energy_after: float | None


@dataclass(frozen=True)
class Member:
    """Where a file of a tar is: its first byte and its length."""

    name: str
    offset: int
    size: int

    @property
    def ending(self) -> str:
        """What stands behind the sample's number."""
        return self.name.partition(".")[2]


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


def walk(file: BinaryIO, name: str, *, with_images: bool = True) -> Iterator[tuple[Encoded, Member]]:
    """The samples of a tar, in its order, and where their images are.

    Args:
        file: that can be sought.
        name: of the tar, for errors.
        with_images: whether to read the images; else their contents are empty.

    Raises:
        tarfile.TarError, ValueError: the tar is damaged, or not one that ``pack`` wrote.
    """
    following, seen = _members(file), set[str]()
    for image in following:
        key, _, extension = image.name.partition(".")
        if extension not in FORMATS.values() or key in seen:
            raise tarfile.ReadError(f"{image.name} where the image of another sample should be")
        seen.add(key)
        contents, logits = _read(file, image) if with_images else b"", None
        follower = _next(following, key, LOGITS, "cls")
        if follower.ending == LOGITS:
            logits, follower = _from_npy(_read(file, follower), follower.name), _next(following, key, "cls")
        label = _read(file, follower)
        if not LABEL.fullmatch(label):
            raise ValueError(f"{shortened(label)} in {follower.name} in place of a label")
        document = _next(following, key, "json")
        metadata = _metadata(_read(file, document), document.name)
        yield Encoded(int(key), extension, contents, int(label), metadata, logits, f"{name}/{image.name}"), image


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
    """The sample with its image decoded, in the shape that it had before ``encode``.

    Raises:
        UserError: the image is damaged, or none that ``encode`` makes.
    """
    try:
        image = decode_image(sample.contents, sample.extension, sample.metadata.get("mode", ""))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"expected an image in {sample.source or sample.index}, got: {reason}; {DELETE}") from None
    return Sample(sample.index, image, sample.label, sample.metadata, sample.logits)


def decode_image(contents: bytes, extension: str, mode: str = "") -> np.ndarray:
    """An image file of a shard as uint8 (height, width) or (height, width, 3).

    Args:
        contents: of the file.
        extension: one of the values of ``FORMATS``; no other format is read.
        mode: L or RGB, to which the image is converted; empty: it stays as it is.

    Raises:
        ValueError, OSError and others of Pillow's decoders: it is damaged, or none that ``encode`` makes.
    """
    formats = [name.upper() for name, ending in FORMATS.items() if ending == extension]
    with Image.open(io.BytesIO(contents), formats=formats) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        if picture.mode not in MODES or getattr(picture, "is_animated", False):
            raise ValueError(f"an image of mode {picture.mode} or several, which prismkd doesn't store")
        return np.asarray(picture if mode in ("", picture.mode) else picture.convert(mode))


def noted(sample: Sample | Encoded, name: str) -> Any:
    """A value of a sample's metadata that synthesis always writes.

    Raises:
        UserError: it isn't there.
    """
    value = sample.metadata.get(name)
    if value is None:
        raise UserError(f"expected {name} in the metadata of image {sample.index}, got none; {DELETE}")
    return value


# --- the members of a tar ----------------------------------------------------------------------------------------


def _members(file: BinaryIO) -> Iterator[Member]:
    """The files of a tar of the plainest kind, as ``pack`` writes it; whoever takes one may read it before the next.

    tarfile's own iteration also follows links, sparse files and extended headers of any length, which come from
    elsewhere.

    Raises:
        tarfile.TarError, ValueError: the tar has something else.
    """
    offset, block = 0, tarfile.BLOCKSIZE
    while (header := file.read(block)) != bytes(block):
        found = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        if found.type != tarfile.REGTYPE or not MEMBER.fullmatch(found.name):
            raise tarfile.ReadError(f"{shortened(found.name)}, which is no file of a sample")
        member = Member(found.name, offset + block, found.size)
        if not 0 <= member.size <= MAX_BYTES.get(member.ending, MAX_IMAGE_BYTES):
            raise tarfile.ReadError(f"{member.size:,} bytes of {member.name}")
        yield member
        offset = member.offset + -(-member.size // block) * block
        file.seek(offset)


def _next(following: Iterator[Member], key: str, *endings: str) -> Member:
    """The next member, which must be the same sample's."""
    member = next(following, None)
    if member is None or member.name not in [f"{key}.{ending}" for ending in endings]:
        got = "nothing" if member is None else member.name
        raise tarfile.ReadError(f"{got} where {key}.{endings[-1]} should be")
    return member


def _read(file: BinaryIO, member: Member) -> bytes:
    contents = file.read(member.size)
    if len(contents) != member.size:
        raise tarfile.ReadError(f"{len(contents):,} of {member.size:,} bytes of {member.name}")
    return contents


def _metadata(contents: bytes, name: str) -> dict[str, Any]:
    try:
        metadata = parse_document(contents, dict[str, Any], name, remedy="")
        as_shape(metadata, Metadata, name, remedy="")
    except UserError as error:
        raise ValueError(str(error).removesuffix("; ")) from None
    return metadata


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


def _from_npy(contents: bytes, name: str) -> np.ndarray:
    """Logits (classes,) float16. Not by ``np.load``, which makes an array of any size that the file names."""
    file = io.BytesIO(contents)
    try:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # of numpy and of Python's tokenizer, which reads what numpy can't
        raise ValueError(f"no array in {name}: {shortened(str(error))}") from None
    if len(shape) != 1 or dtype != np.float16 or len(contents) - file.tell() != 2 * shape[0]:
        raise ValueError(f"an array {shortened(shape)} of {dtype} in {name} in place of logits")
    return np.frombuffer(contents, np.float16, offset=file.tell())


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


def stacked(samples: Sequence[Sample]) -> np.ndarray:
    """The images of samples as networks take them: float32 (n, channels, height, width) in [0, 1].

    Raises:
        UserError: they differ in shape.
    """
    other = next((sample for sample in samples if sample.image.shape != samples[0].image.shape), None)
    if other is not None:
        raise UserError(
            f"expected images of shape {samples[0].image.shape}, got {other.image.shape} at image {other.index}; "
            f"{DELETE}"
        )
    return np.stack([to_array(sample) for sample in samples])


def channels_first(image: np.ndarray) -> np.ndarray:
    """An image (height, width) or (height, width, channels) as (channels, height, width), without a copy."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
