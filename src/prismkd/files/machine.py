"""Errors of the machine, which say nothing about what is in a file: too few file handles, no permission, a bad disk."""

from __future__ import annotations

import errno


def is_of_machine(error: BaseException) -> bool:
    """Whether an error is the operating system's, and the file may be as good as any other."""
    # Pillow raises OSErrors of its own, without a number, on damaged images; and damage that sends a reader to a place
    # before the file's start is answered with EINVAL.
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def is_exhausted(error: BaseException) -> bool:
    """Whether the process has no file handle or no memory left: then every further file fails in the same way."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def remedy_for(error: BaseException) -> str:
    """What to do about an error of the machine."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return "allow more open files (ulimit -n)"
    if number == errno.EIO:
        return "check the disk"
    if number == errno.ENOMEM:
        return "free some memory"
    return "check the files and their permissions"
