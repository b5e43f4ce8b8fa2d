"""The work in this process, one unit after the other."""

from __future__ import annotations

from prismkd.errors import UserError
from prismkd.synthesis.workers.pool import Event, Progress, Unit


class InlineWorker:
    """Does a unit when it is begun; nothing can be timed out here."""

    def __init__(self, unit: Unit, progress: Progress) -> None:
        self._do, self._progress, self._events = unit, progress, list[Event]()

    def is_ready(self) -> bool:
        """Always."""
        return True

    def begin(self, unit: int) -> None:
        """Do the unit; errors other than bad input become events."""
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            self._progress(count)

        try:
            self._do(unit, progress)
        except UserError:
            raise
        except Exception as error:  # whatever it is, it is recorded with its unit and tried again
            # What was counted of the failed try is taken back: the bar shows images that are there.
            self._progress(-done)
            self._events.append(Event("failed", describe(error)))
        else:
            self._events.append(Event("done"))

    def events(self) -> list[Event]:
        """The outcome of the unit."""
        events, self._events = self._events, []
        return events

    def ask_to_end(self) -> None:
        """Nothing to end."""

    def stop(self) -> None:
        """Nothing to end."""


def describe(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
