"""A process per device on this machine, spawned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from tqdm import tqdm

from prismkd.errors import UserError
from prismkd.synthesis.workers.inline import describe
from prismkd.synthesis.workers.pool import Event, Open, Unit


class ProcessWorker:
    """One process, which opens its models once and then does units."""

    def __init__(self, open_worker: Open, device: str) -> None:
        context = multiprocessing.get_context("spawn")  # forked processes can't use CUDA
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, open_worker, device), daemon=True)
        with _interrupts_held():
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The process, for those who want to kill it."""
        return self._process.pid

    def is_ready(self) -> bool:
        """At once: it loads its models with its first unit."""
        return True

    def begin(self, unit: int) -> None:
        """Send the unit."""
        with suppress(OSError):  # it has died: events says so
            self._connection.send(unit)

    def events(self) -> Iterator[Event]:
        """What the process sent, and whether it is gone."""
        try:
            while self._connection.poll():
                yield self._connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            yield Event("lost", f"its process ended ({_ending(self._process.exitcode)})")

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C is the driver's: a process that is started here never hears it, not even while it imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile is heard now


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


def _serve(connection: Connection, open_worker: Open, device: str) -> None:
    """The life of a worker process: it ends with its driver, whose end of the pipe closes however that dies."""
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which this process, once killed, leaves
    unit: Unit | None = None
    while True:
        try:
            number = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        try:
            unit = unit or open_worker(device)
            unit(number, lambda count: connection.send(Event("progress", count=count)))
            connection.send(Event("done"))
        except UserError as error:
            connection.send(Event("bad input", str(error)))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)
        except Exception as error:  # the pool decides whether it is tried again
            connection.send(Event("failed", describe(error)))
