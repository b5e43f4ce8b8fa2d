"""How long work shows how far it is: a ``Track`` opens a stage, and the ``Progress`` that it gives moves it.

On a terminal a stage is a bar. Anywhere else, as in a log file, it is a line when it begins, one every half minute, and
one when it ends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from prismkd.text import printable

Progress = Callable[[int], None]  # called with the number of units (images, steps, ...) just finished
Track = Callable[[str, int], AbstractContextManager[Progress]]  # (description, total) -> a stage while the block runs
Clock = Callable[[], float]

LINE_SECONDS = 30.0  # between two lines of a log
LOOK_SECONDS = 1.0  # between two looks at whether one is due
RECENT_SECONDS, RECENT_COUNTS = 300.0, 8  # a rate is of the last five minutes, or of so many counts where they are rare
AT_ONCE_SECONDS = 1.0  # what a stage counts in its first second was there before
TICK_SECONDS = 0.5  # between two counts that are kept apart
MIN_SECONDS = 3.0  # that counts span before they make a rate
START_SHARE = 0.25  # of the time up to the first count: counts that come within it belong to the start


def ignore(count: int) -> None:
    """A ``Progress`` that nobody looks at."""


def silent(description: str, total: int) -> AbstractContextManager[Progress]:
    """A ``Track`` that shows nothing."""
    return nullcontext(ignore)


@contextmanager
def bars(description: str, total: int) -> Iterator[Progress]:
    """A ``Track`` on stderr: a bar on a terminal, lines of a log elsewhere."""
    if not total:
        yield ignore  # there is nothing to do, or what is wrong will be said
        return
    from rich.console import Console  # here, since importing it takes longer than the help of all commands

    console, description = Console(stderr=True), printable(description)  # a folder's name may stand in it
    with _bar(console, description, total) if console.is_terminal else logged(description, total) as progress:
        yield progress


def say(text: str) -> None:
    """A line on stderr about the work as a whole; where there is no terminal, with the time of day."""
    text = printable(text)
    print_on_stderr(text if sys.stderr.isatty() else _stamped(text))


def print_on_stderr(line: str) -> None:
    """A line on stderr; lost where that is a full disk, as no work ends for want of its log."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


# --- how fast ------------------------------------------------------------------------------------------------------


class Rate:
    """How many units a stage finishes per second, from its own recent counts.

    What comes first has no known duration: images that were there already, which are counted at once, or a first batch
    that waited for models to be loaded. So the first count after those only starts the clock, together with those of
    other workers that follow closely.
    """

    def __init__(self, total: int, clock: Clock = time.monotonic) -> None:
        self.total, self.done, self.start, self._clock = total, 0, clock(), clock
        self._first: float | None = None
        self._recent = deque[tuple[float, int]]()  # when, and how many were done by then

    def count(self, number: int) -> None:
        """Note that so many more are done; negative numbers take some back."""
        now = self._clock()
        self.done += number
        if now - self.start < AT_ONCE_SECONDS:
            return
        if self._first is None:
            self._first = now
        if now - self._first <= START_SHARE * (self._first - self.start):
            self._recent.clear()
        if len(self._recent) > 2 and now - self._recent[-2][0] < TICK_SECONDS:
            self._recent.pop()  # thousands of steps a second need no entry each
        self._recent.append((now, self.done))
        while len(self._recent) > RECENT_COUNTS and now - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()

    @property
    def per_second(self) -> float | None:
        """Units per second; None before there is one."""
        if len(self._recent) < 2:
            return None
        (begin, before), (end, after) = self._recent[0], self._recent[-1]
        return (after - before) / (end - begin) if end - begin >= MIN_SECONDS and after > before else None

    @property
    def seconds_left(self) -> float | None:
        """Until all are done; None where nobody knows."""
        rate = self.per_second
        return None if rate is None else max(0, self.total - self.done) / rate

    @property
    def seconds_silent(self) -> float:
        """Since the last count."""
        return self._clock() - (self._recent[-1][0] if self._recent else self.start)

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come for longer than counts were apart so far."""
        gaps = len(self._recent) - 1
        usual = (self._recent[-1][0] - self._recent[0][0]) / gaps if gaps > 0 else 0.0
        return self.seconds_silent > max(LINE_SECONDS, 2 * usual)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self.start


def duration(seconds: float) -> str:
    """A length of time in words, such as 2 h 5 min; two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min" + (f" {rest} s" if rest and minutes < 10 else "")
    hours, rest = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h" + (f" {rest} min" if rest else "")
    return f"{hours / 24:.1f} days"


def speed(per_second: float) -> str:
    """A rate in words: units per second, or seconds per unit where these are slow."""
    if per_second < 1:
        return f"{duration(1 / per_second)} each"
    return f"{per_second:,.0f} per second" if per_second >= 100 else f"{per_second:.3g} per second"


# --- a log ---------------------------------------------------------------------------------------------------------


class StageLog:
    """The lines of one stage.

    Args:
        description: what the stage does.
        total: how many units it has.
        write: called with each line.
        clock: seconds that only grow.
    """

    def __init__(self, description: str, total: int, write: Callable[[str], None], clock: Clock = time.monotonic):
        self.description, self._write, self._clock = description, write, clock
        self.rate = Rate(total, clock)
        self._last = clock()
        self._lock = threading.Lock()  # of the thread that looks and of the one that works
        write(f"{description}: begins ({total:,} to do)")

    def count(self, number: int) -> None:
        """Note that so many more are done."""
        with self._lock:
            self.rate.count(number)
        self.look()

    def look(self) -> None:
        """Write a line if the last one is half a minute old."""
        with self._lock:
            if self._clock() - self._last >= LINE_SECONDS:
                self._last = self._clock()
                self._write(f"{self.description}: {self._how_far()}")

    def _how_far(self) -> str:
        rate, left = self.rate.per_second, self.rate.seconds_left
        text = f"{self.rate.done:,} of {self.rate.total:,}"
        if self.rate.done >= self.rate.total:
            return f"{text}, finishing"
        if not self.rate.done:
            return f"{text} after {duration(self.rate.seconds)}"
        if self.rate.is_silent:
            return f"{text}, nothing new for {duration(self.rate.seconds_silent)}"
        return text if rate is None or left is None else f"{text}, {speed(rate)}, about {duration(left)} left"

    def end(self, *, stopped: bool = False) -> None:
        """Write what was done and how long it took; ``stopped``: by an error or an interruption."""
        done, total = f"{self.rate.done:,}", f"{self.rate.total:,}"
        counted = f"all {total}" if self.rate.done == self.rate.total else f"{done} of {total}"
        self._write(f"{self.description}: {'stopped at' if stopped else 'done,'} {counted}, after "
                    f"{duration(self.rate.seconds)}")  # fmt: skip


@contextmanager
def logged(description: str, total: int) -> Iterator[Progress]:
    """A ``Track`` that writes lines to stderr; a thread of its own sees to them while a unit takes long."""
    log = StageLog(description, total, lambda line: print_on_stderr(_stamped(line)))
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            log.look()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield log.count
    except BaseException:
        ended.set()
        log.end(stopped=True)
        raise
    finally:
        ended.set()
        watcher.join()
    log.end()


def _stamped(text: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {text}"


# --- a bar ---------------------------------------------------------------------------------------------------------


@contextmanager
def _bar(console: Any, description: str, total: int) -> Iterator[Progress]:
    """A bar with count, time and, once there is a rate, the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    rate = Rate(total)
    name, left = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[left]}")
    if console.width >= 80:
        description = f"{description:34s}"
        columns = [name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), left]
    else:  # the count first; of the name what there is room for
        room = console.width - 2 * len(str(total)) - 3 - (18 if console.width >= 40 else 0)
        description = description[: max(0, room)]
        columns = [MofNCompleteColumn(), name, *([left] if console.width >= 40 else [])]
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(description, total=total, left="")

        def count(number: int) -> None:
            rate.count(number)
            seconds = rate.seconds_left
            bars.update(task, completed=rate.done, left="" if seconds is None else f"{duration(seconds)} left")

        yield count
