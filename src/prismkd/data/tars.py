"""webdataset's layout: tars of members with one key and the suffixes of an image and of its class."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from tarfile import ReadError
from typing import Any

from prismkd.classes.matching import ClassLabels
from prismkd.data.labels import check_labels
from prismkd.data.listing import Listing, expand_pattern, part_opener
from prismkd.errors import UserError

SUFFIXES = ("png", "jpg", "jpeg", "webp")
MAX_CLASS_BYTES = 2**10  # of the file of a class
MAX_HEADER_BYTES = 2**16  # of a long name and the like
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
           tarfile.GNUTYPE_LONGLINK)  # fmt: skip


def list_tars(pattern: str, classes: ClassLabels) -> Listing:
    """The images of all shards of a pattern, of the domain ``id``; they stay in the tars until they are decoded.

    Members belong together whose names are equal up to the first dot of the file's name. The class (``cls``) is a
    label as text, or a class's name.

    Raises:
        UserError: no such shards, a damaged one, an image without a class or the other way round, or unknown classes.
    """
    listing, texts = Listing(), list[str]()
    for path in expand_pattern(pattern):
        try:
            for key, suffix, member, text in _samples(path):
                # All labels are read together below: only then it shows whether they are numbers or names
                listing.add(f"{path}/{key}.{suffix}", part_opener(path, member.offset_data, member.size), 0, "id")
                texts.append(text)
        except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
            raise UserError(f"expected a tar of samples, got {path}: {error}; fetch or make it again") from None
    listing.labels = _labels(texts, classes, pattern)
    return listing


def _samples(path: Path) -> list[tuple[str, str, tarfile.TarInfo, str]]:
    """Each sample's key, its image's suffix and member, and the text of its class."""
    images, texts = dict[str, tuple[str, tarfile.TarInfo]](), dict[str, str]()
    with tarfile.open(path, "r:", tarinfo=_Member) as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            key = f"{folder}/{stem}".lstrip("/")
            if suffix.lower() in SUFFIXES:
                _check_file(member)
                images[key] = (suffix, member)
            elif suffix == "cls":
                _check_file(member, MAX_CLASS_BYTES)
                file = tar.extractfile(member)
                texts[key] = "" if file is None else file.read().decode(errors="replace").strip()
    unpaired = sorted(images.keys() ^ texts.keys())
    if unpaired:
        raise UserError(
            f"expected an image ({', '.join(SUFFIXES)}) and a class (cls) for every key in {path}, got only one of "
            f"them for {len(unpaired)} ({', '.join(unpaired[:3])}); write the shard again"
        )
    return [(key, *images[key], texts[key]) for key in images]


class _Member(tarfile.TarInfo):
    """A member whose headers are short: tarfile reads a header of any length into memory."""

    def _proc_member(self, tarfile: Any) -> Any:  # where tarfile decides how to go on behind a header
        if self.type in HEADERS and self.size > MAX_HEADER_BYTES:
            raise ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tarfile)  # type: ignore[misc]


def _check_file(member: tarfile.TarInfo, at_most: int | None = None) -> None:
    if not member.isreg() or member.issparse():
        raise tarfile.ReadError(f"{member.name[:80]} is no plain file")
    if at_most is not None and member.size > at_most:
        raise tarfile.ReadError(f"{member.name[:80]} has {member.size:,} bytes")


def _labels(texts: list[str], classes: ClassLabels, source: str) -> list[int]:
    if all(re.fullmatch("[0-9]{1,9}", text) for text in texts):
        return check_labels([int(text) for text in texts], len(classes), source)
    names = sorted(set(texts))
    labels = dict(zip(names, classes.of(names, source), strict=True))
    return [labels[text] for text in texts]
