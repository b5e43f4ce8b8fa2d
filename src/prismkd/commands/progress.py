"""Progress bars on stderr, or a line per piece of work where nobody watches a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def tracker() -> Iterator[Track]:
    """Yields a function (description, total) -> context manager of a function that advances by a count."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description:34s}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)

    @contextmanager
    def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
        if not console.is_terminal:
            print(f"{description}: {total}", file=sys.stderr, flush=True)
            yield lambda count: None
            return
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(description, total=total)
            yield lambda count: bars.advance(task, count)

    yield track
