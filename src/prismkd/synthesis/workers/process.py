"""A process per device on this machine, spawned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from types import FrameType

from tqdm import tqdm

from prismkd.errors import UserError
from prismkd.signals import end_with_parent
from prismkd.synthesis.workers.inline import describe
from prismkd.synthesis.workers.pool import Event, Open, Unit

LEAVE_SECONDS = 1.0  # for a worker to take its unfinished file away


class ProcessWorker:
    """One process, which opens its models once and then does units."""

    def __init__(self, open_worker: Open, device: str) -> None:
        context = multiprocessing.get_context("spawn")  # forked processes can't use CUDA
        self._connection, theirs = context.Pipe()
        # Pickled here, so that the process watches its driver before it imports what it opens, which takes seconds.
        opener = bytes(ForkingPickler.dumps(open_worker))
        self._process = context.Process(target=_serve, args=(theirs, opener, device), daemon=True)
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

    def ask_to_end(self) -> None:
        """Send it a SIGTERM, on which it takes its unfinished file away."""
        self._process.terminate()

    def stop(self) -> None:
        """End the process: soon by itself, or killed."""
        self._process.terminate()
        self._process.join(LEAVE_SECONDS)
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
    number = 0 if code is None else -code if code < 0 else code - 128
    if number > 0:
        name = signal.Signals(number).name
        return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


class _Leave(BaseException):
    """A signal has come that ends the worker."""


def _leave(number: int, frame: FrameType | None) -> None:
    raise _Leave(number)


def _serve(connection: Connection, opener: bytes, device: str) -> None:
    """The life of a worker process: it ends with its driver, however that dies, or by a signal."""
    driver = multiprocessing.parent_process()
    assert driver is not None and driver.pid is not None
    end_with_parent(driver.pid)
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _leave)
        _work(connection, opener, device)
    except _Leave as leave:
        os._exit(128 + leave.args[0])


def _work(connection: Connection, opener: bytes, device: str) -> None:
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which this process, once killed, leaves
    unit: Unit | None = None
    while True:
        try:
            number = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        try:
            unit = unit or _opened(opener, device)
            unit(number, lambda count: connection.send(Event("progress", count=count)))
            connection.send(Event("done"))
        except UserError as error:
            connection.send(Event("bad input", str(error)))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)
        except Exception as error:  # the pool decides whether it is tried again
            connection.send(Event("failed", describe(error)))


def _opened(opener: bytes, device: str) -> Unit:
    open_worker: Open = ForkingPickler.loads(opener)
    return open_worker(device)
