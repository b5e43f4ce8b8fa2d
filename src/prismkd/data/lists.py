"""Split lists: text files with an image's path and its label on every line, as DomainNet, PACS and Caffe have them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from prismkd.classes.files import read_text
from prismkd.classes.matching import ClassLabels
from prismkd.data.labels import check_labels
from prismkd.data.listing import Listing, expand_pattern, file_opener
from prismkd.errors import UserError


def list_split_lists(pattern: str, classes: ClassLabels) -> Listing:
    """The images of all lists of a pattern such as ``domainnet/*_test.txt``.

    A path is relative to its list or absolute, and reads ``domain/class/file``, ``class/file`` or ``file``; what has no
    domain is of the domain ``id``. The class is its folder where all folders are called like classes, else the label,
    from 0.

    Raises:
        UserError: no such list, a line that isn't as above, an image that isn't there, or unknown classes.
    """
    rows = [row for path in expand_pattern(pattern) for row in _rows(path)]
    missing = [path for path, _, _ in rows if not _is_file(path)]
    if missing:
        raise UserError(
            f"expected the {len(rows)} images of {pattern}, found no {missing[0]} ({len(missing)} in all); "
            "put the images beside the list, in the folders that it names"
        )
    listing = Listing()
    for (path, parts, _), label in zip(rows, _labels(rows, classes, pattern), strict=True):
        listing.add(str(path), file_opener(path), label, parts[-3] if len(parts) > 2 else "id")
    return listing


Row = tuple[Path, tuple[str, ...], int]  # a file, its path's parts in the list, and its label


def _rows(path: Path) -> list[Row]:
    rows = list[Row]()
    for number, line in enumerate(read_text(path, "a text file", "check it").splitlines(), start=1):
        if line.strip():
            name, _, label = line.strip().rpartition(" ")  # from the right: paths may have blanks
            if not name or not re.fullmatch("[0-9]{1,9}", label):
                raise UserError(
                    f"expected an image's path and its label in line {number} of {path}, such as real/dog/1.jpg 3, got "
                    f"{line[:80]!r}; correct it"
                )
            parts = PurePosixPath(name.strip()).parts
            rows.append((path.parent.joinpath(*parts), parts, int(label)))
    return rows


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no disk takes
        return False


def _labels(rows: list[Row], classes: ClassLabels, source: str) -> list[int]:
    folders = sorted({parts[-2] if len(parts) > 1 else "" for _, parts, _ in rows})
    # Folders are surer than numbers: PACS counts its classes from 1
    if not classes.know(folders):
        return check_labels([label for _, _, label in rows], len(classes), source)
    labels = dict(zip(folders, classes.of(folders, source), strict=True))
    return [labels[parts[-2]] for _, parts, _ in rows]
