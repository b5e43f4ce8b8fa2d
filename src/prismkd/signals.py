"""The signals that end a command: Ctrl-C, SIGTERM (Slurm, Kubernetes, ``timeout``) and SIGHUP (a closed terminal).

A signal raises KeyboardInterrupt in the main thread, so that all that is open is closed on the way out. That can fail:
the main thread may sit in one long call of compiled code, and a library may turn the exception into one of its own or
swallow it. So a second thread hears the signals, too, and ends the process when it is still there some seconds later.
This loses nothing, as every file appears whole or not at all.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 4.0  # for the main thread to close what is open
SAME_SECONDS = 1.0  # `timeout` sends its signal twice, and systemd SIGHUP behind SIGTERM: these are no second wish
LOOK_SECONDS = 1.0  # between two looks at whether a parent is there

_before_hard_end = list[Callable[[], object]]()


def before_hard_end(action: Callable[[], object]) -> None:
    """Have something done where the process is ended although its main thread hasn't finished.

    Args:
        action: quick, and fit to be called by another thread at any moment.
    """
    _before_hard_end.append(action)


def line_of(number: int) -> str:
    """What a user is told who, or whose machine, has ended a command."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"interrupted{by}; give the same command again to continue"


class EndingSignals:
    """Hears the signals from now on, for a process that is all this program's own; called in its main thread.

    A signal that is ignored already stays so: SIGHUP under ``nohup``, SIGINT of a shell's background job.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._raises, self._has_said = False, False
        self._lock = threading.RLock()  # taken again by a destructor's error while it is held
        # The interpreter writes the numbers of signals to this, even while the main thread is in compiled code.
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in ENDING:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                signal.signal(number, self._interrupt)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._leave_to_parent)
        self._hush_consequences()
        threading.Thread(target=self._watch, daemon=True).start()

    def received(self) -> int | None:
        """The number of the first signal that came."""
        with self._lock, suppress(BlockingIOError):
            # Only looked at: taken away, it would not wake the thread that watches.
            waiting = () if self._first else self._reader.recv(4096, socket.MSG_PEEK)
            return next((number for number in waiting if number in ENDING), self._first)
        return self._first

    def start_raising(self) -> None:
        """From now on the first signal raises KeyboardInterrupt; at once where one has come already."""
        self._raises = True
        if self.received():
            self._interrupt(signal.SIGINT, None)

    def stop_raising(self) -> None:
        """From now on no KeyboardInterrupt comes; a signal is only noted."""
        self._raises = False

    def end(self, number: int) -> NoReturn:
        """Say what happened, and end the process in order, with the exit code that shells give a signal.

        The interpreter isn't taken down: libraries that were interrupted while they were imported would complain or
        crash, and threads that nobody needs any more would be waited for.
        """
        self._say(number)
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(128 + number)

    def _interrupt(self, number: int, frame: Any) -> None:
        if self._raises:
            self._raises = False  # once: a second one would interrupt the closing
            raise KeyboardInterrupt

    def _watch(self) -> None:
        """The life of the second thread."""
        since = 0.0
        while True:
            left = None if self._first is None else max(0.0, since + GRACE_SECONDS - time.monotonic())
            select.select([self._reader], [], [], left)
            now = time.monotonic()
            with self._lock, suppress(BlockingIOError):
                # Beside ours there are the numbers of others that some library hears, such as SIGCHLD.
                for number in self._reader.recv(4096):
                    if number in ENDING and self._first is None:
                        self._first, since = number, now
                    elif number in ENDING and now - since > SAME_SECONDS:
                        self._end_hard(number)
            if self._first is not None and now - since >= GRACE_SECONDS:
                self._end_hard(self._first)

    def _end_hard(self, number: int) -> NoReturn:
        try:
            self._say(number, "\x1b[?25h\n" if os.isatty(2) else "")  # a bar has hidden the cursor
            if "multiprocessing" in sys.modules:
                for child in sys.modules["multiprocessing"].active_children():
                    child.kill()
            for action in _before_hard_end:
                action()
        finally:
            os._exit(128 + number)

    def _say(self, number: int, before: str = "") -> None:
        with self._lock:
            has_said, self._has_said = self._has_said, True
        # Not by sys.stderr, whose lock the main thread may hold; and not to a reader that has stopped reading.
        with suppress(OSError, ValueError):
            if not has_said and select.select([], [2], [], 0)[1]:
                os.write(2, f"{before}{line_of(number)}\n".encode())

    def _hush_consequences(self) -> None:
        """Errors of destructors and of other threads aren't shown once a signal has come: they follow from it."""
        unraisable, of_thread = sys.unraisablehook, threading.excepthook
        sys.unraisablehook = lambda error: None if self.received() else unraisable(error)
        threading.excepthook = lambda error: None if self.received() else of_thread(error)

    def _hold(self) -> None:
        """While a process is forked no signal comes, which a child would take for its own before it knows better."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def _let_go(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _leave_to_parent(self) -> None:
        """In a forked child, such as a reader of images: its parent hears Ctrl-C and ends it."""
        signal.set_wakeup_fd(-1)
        for number in ENDING:
            if signal.getsignal(number) == self._interrupt:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        self._let_go()


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent, however that ended.

    Args:
        parent: its process number.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        for action in _before_hard_end:
            action()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
