"""What a reader does beside reading: connections, processes, and files written or code loaded where they must not be.

Python tells its audit hooks of all these. A hook can't be taken away again, so one is there for the rest of the process
and looks only while ``watched`` is active.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONNECTIONS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
PROCESSES = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty"}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Watch:
    """What is watched now: the folder in which a reader may do what it likes, and what it did elsewhere."""

    installed = False
    folder = ""
    seen: list[str]


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """While active, connections and new processes are refused; yields the list of what was done, to be empty.

    Args:
        folder: in which files may be written, but no code be opened.
    """
    if not _Watch.installed:
        sys.addaudithook(_hook)
        _Watch.installed = True
    seen = _Watch.seen = []
    _Watch.folder, wrote = os.path.realpath(folder), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield seen
    finally:
        _Watch.folder, sys.dont_write_bytecode = "", wrote


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _Watch.folder:
        return
    if event == "open":
        _opened(*arguments[:3])
    elif event in CONNECTIONS or event in PROCESSES:
        _Watch.seen.append(f"{event} {arguments!r}"[:200])
        raise ConnectionRefusedError("a reader neither connects nor starts a process")
    elif event in CHANGES:
        for path in arguments[: 1 + (event in ("os.rename", "os.link", "os.symlink"))]:
            if not _is_inside(path):
                _Watch.seen.append(f"{event} {path!r}"[:200])


def _opened(path: Any, _: Any, flags: Any) -> None:
    if isinstance(path, int):
        return
    if isinstance(flags, int) and flags & WRITING and not _is_inside(path) and os.fspath(path) != os.devnull:
        _Watch.seen.append(f"write {path!r}"[:200])
    elif os.fspath(path)[-3:] in (".py", b".py") and _is_inside(path):
        _Watch.seen.append(f"code {path!r}"[:200])


def _is_inside(path: Any) -> bool:
    if isinstance(path, int):
        return True
    full = os.path.realpath(os.fsdecode(path))
    return full == _Watch.folder or full.startswith(_Watch.folder + os.sep)
