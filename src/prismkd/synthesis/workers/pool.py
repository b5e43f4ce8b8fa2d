"""Units of work over workers that may fail, hang or die: queue, retries with back-off, time-outs.

What a unit is, a pool doesn't know. A unit has to be idempotent: one that was lost half-way is simply done again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prismkd.errors import UserError

Progress = Callable[[int], None]  # called with the number of images just finished
Unit = Callable[[int, Progress], None]  # does one unit; a UserError in it ends all work, other errors are retried
Open = Callable[[str], Unit]  # called once per worker with its device; picklable where workers are processes


@dataclass(frozen=True)
class Policy:
    """How often and how long.

    Attributes:
        max_tries: of a unit before it is given up.
        timeout: seconds without any progress after which a worker counts as hung.
        start_timeout: the same, while a worker starts and for its first unit, in which models are loaded and compiled.
        backoff: seconds before the second try; each further one waits twice as long.
    """

    max_tries: int
    timeout: float
    start_timeout: float
    backoff: float = 1.0


@dataclass(frozen=True)
class Event:
    """What a worker says: ``progress`` (count), ``done``, ``failed``, ``bad input`` or ``lost`` (each with a text)."""

    kind: str
    text: str = ""
    count: int = 0


class Worker(Protocol):
    """Does one unit at a time."""

    def is_ready(self) -> bool:
        """Whether it can take a unit; one that waits for a place in a cluster can't yet."""

    def begin(self, unit: int) -> None:
        """Start a unit, or do it at once."""

    def events(self) -> Iterable[Event]:
        """What happened since the last call; doesn't wait. After ``lost`` the worker is not used again."""

    def ask_to_end(self) -> None:
        """Let it begin to end; doesn't wait. ``stop`` follows."""

    def stop(self) -> None:
        """End it, whatever it is doing."""


@dataclass
class _Seat:
    """One worker's place, with what it does."""

    start: Callable[[], Worker]
    worker: Worker | None = None
    unit: int | None = None
    heard: float = 0.0
    fresh: bool = True  # has not finished a unit yet
    done: int = 0  # images of the present try


@dataclass
class Pool:
    """Does units with workers.

    Attributes:
        starters: each starts a worker; one that is lost is started again.
        policy: retries and time-outs.
        warn: called with a line where a unit fails or a worker is lost.
        pause: seconds between looks at the workers; 0 where they do their units at once.
    """

    starters: Sequence[Callable[[], Worker]]
    policy: Policy
    warn: Callable[[str], None]
    pause: float = 0.02
    _tries: Counter[int] = field(default_factory=Counter)
    _ready_at: dict[int, float] = field(default_factory=dict)
    _given_up: dict[int, str] = field(default_factory=dict)

    def run(self, units: Iterable[int], progress: Progress) -> dict[int, str]:
        """Do all units; returns the reasons of those that were given up.

        Raises:
            UserError: a unit met bad input, which no retry cures.
        """
        queue = deque(units)
        seats = [_Seat(start) for start in self.starters[: len(queue)]]
        try:
            while queue or any(seat.unit is not None for seat in seats):
                for seat in seats:
                    if seat.unit is None and queue:
                        self._assign(seat, queue, alone=all(other.unit is None for other in seats))
                    if seat.unit is not None:
                        self._listen(seat, queue, progress)
                if self.pause or not any(seat.unit is not None for seat in seats):
                    time.sleep(self.pause or 0.05)  # the latter: all that is left waits for its back-off
        finally:
            workers = [seat.worker for seat in seats if seat.worker is not None]
            for worker in workers:  # all of them first, as each may take a moment
                worker.ask_to_end()
            for worker in workers:
                worker.stop()
        return self._given_up

    def _assign(self, seat: _Seat, queue: deque[int], *, alone: bool) -> None:
        """Begin the first unit that isn't waiting for its back-off; ``alone``: no other worker is at work."""
        now = time.monotonic()
        if seat.worker is None:
            seat.worker, seat.fresh, seat.heard = seat.start(), True, now
        if not seat.worker.is_ready():
            if alone and now - seat.heard > self.policy.start_timeout:
                raise UserError(
                    f"expected a worker to start within {self.policy.start_timeout:.0f} s, got none; check that the "
                    "cluster has room for synthesis.num_workers workers, then give the same command again"
                )
            return
        # Units that wait for their back-off are passed over, so that one bad unit holds up no other.
        unit = next((unit for unit in queue if self._ready_at.get(unit, 0.0) <= now), None)
        if unit is None:
            return
        queue.remove(unit)
        seat.unit, seat.heard, seat.done = unit, time.monotonic(), 0
        seat.worker.begin(unit)

    def _listen(self, seat: _Seat, queue: deque[int], progress: Progress) -> None:
        assert seat.worker is not None
        for event in seat.worker.events():
            seat.heard = time.monotonic()
            if event.kind == "bad input":
                raise UserError(event.text)
            if event.kind == "progress":
                seat.done += event.count
                progress(event.count)
            elif event.kind == "done":
                seat.unit, seat.fresh = None, False
            else:
                self._fail(seat, event, queue, progress)
        limit = self.policy.start_timeout if seat.fresh else self.policy.timeout
        if seat.unit is not None and time.monotonic() - seat.heard > limit:
            self._fail(seat, Event("lost", f"no sign of life for {limit:.0f} s"), queue, progress)

    def _fail(self, seat: _Seat, event: Event, queue: deque[int], progress: Progress) -> None:
        """Put the unit back, or give it up; replace a worker that is lost."""
        assert seat.worker is not None
        if event.kind == "lost":
            seat.worker.stop()
            seat.worker = None
        if seat.unit is None:
            return  # it ended after its unit was done
        unit, seat.unit = seat.unit, None
        progress(-seat.done)
        self._tries[unit] += 1
        if self._tries[unit] >= self.policy.max_tries:
            self._given_up[unit] = event.text
            self.warn(f"shard {unit} is given up after {self._tries[unit]} tries: {event.text}")
            return
        wait = self.policy.backoff * 2 ** (self._tries[unit] - 1)
        self._ready_at[unit] = time.monotonic() + wait
        self.warn(f"shard {unit} failed and is tried again in {wait:g} s: {event.text}")
        queue.append(unit)
