"""Opening a file that somebody else may have put there: a plain one, no pipe and no device, which may have no end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """A file opened for reading; links are followed.

    Raises:
        OSError: it can't be opened, or is no plain file.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder the opening says so
        raise OSError(errno.EINVAL, "a pipe or a device, and no file", str(path))
    return path.open("rb")
