"""No connection, and no question at the terminal, while a library opens what somebody else made.

The libraries have switches for this (``local_files_only``, ``trust_remote_code``), which are set as well. But a
configuration may lead them to functions that don't heed these. Python's audit events come before every connection and
before every question, whoever wants them, and a hook of them may refuse.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")

# Of this thread alone: the others of a program may be sending images to a store.
_refused: ContextVar[tuple[str, ...]] = ContextVar("refused", default=())


class RefusedError(OSError):
    """What a library gets that wants to connect or to ask; an OSError, as if the network were gone."""


def stays_offline() -> bool:
    """Whether this process fetches nothing, whatever a source names: its user or a run's record has decided so."""
    return os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")


@contextmanager
def offline() -> Iterator[None]:
    """While active, this thread opens no connection and asks nothing at the terminal."""
    with _refusing((*CONNECTIONS, "builtins.input")):
        yield


@contextmanager
def unasked() -> Iterator[None]:
    """While active, this thread asks nothing at the terminal; it may connect."""
    with _refusing(("builtins.input",)):
        yield


@contextmanager
def _refusing(events: tuple[str, ...]) -> Iterator[None]:
    _install()
    token = _refused.set((*_refused.get(), *events))
    try:
        yield
    finally:
        _refused.reset(token)


@cache
def _install() -> None:
    """Once per process, since hooks stay."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _refused.get():
        return
    if event == "builtins.input":
        raise RefusedError("it asks a question, such as whether to run code that comes with the files")
    if event in ("socket.connect", "socket.sendto") and arguments[0].family == getattr(socket, "AF_UNIX", None):
        return  # within this machine
    raise RefusedError("it names something that would have to be fetched, and local files are opened without a network")
