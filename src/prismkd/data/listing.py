"""What the reader of a layout hands on, and how it finds and opens files."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from prismkd.data.decode import EncodedImage
from prismkd.errors import UserError
from prismkd.text import shortened

MAX_DIGITS = 6  # of the numbers of a range of files


@dataclass
class Listing:
    """Images with their labels and domains, in a fixed order."""

    encoded: list[EncodedImage] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)

    def add(self, name: str, open: Callable[[], BinaryIO], label: int, domain: str) -> None:
        """One more image, unless it is of a class that the run leaves out."""
        if label < 0:
            return
        self.encoded.append(EncodedImage(name, open))
        self.labels.append(label)
        self.domains.append(domain)


def file_opener(path: Path) -> Callable[[], BinaryIO]:
    """A function that opens a file."""

    def _open() -> BinaryIO:
        return path.open("rb")

    return _open


def part_opener(path: Path, offset: int, size: int) -> Callable[[], BinaryIO]:
    """A function that opens ``size`` bytes of a file from ``offset`` on, such as a member of a tar."""

    def _open() -> BinaryIO:
        with path.open("rb") as file:
            file.seek(offset)
            return io.BytesIO(file.read(size))

    return _open


def expand_pattern(pattern: str) -> list[Path]:
    """The files of a pattern with ``*`` or ``{000..009}``, in the order of their names.

    Raises:
        UserError: a file of a range is missing, or there is none at all.
    """
    braces = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", pattern)
    if braces is None:
        # A name with brackets in it may be a file as it stands
        paths = [Path(pattern)] if Path(pattern).is_file() else [Path(name) for name in sorted(glob.glob(pattern))]
    else:
        head, first, last, tail = braces.groups()
        if max(len(first), len(last)) > MAX_DIGITS:
            raise UserError(f"expected numbers of up to {MAX_DIGITS} digits, got {shortened(pattern)}; correct it")
        numbers = range(int(first), int(last) + 1)
        paths = [Path(f"{head}{number:0{len(first)}d}{tail}") for number in numbers]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise UserError(f"expected the files {pattern}, found no {missing[0] if missing else 'such file'}; check it")
    return paths
