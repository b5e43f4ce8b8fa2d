"""How long work shows how far it is: a ``Track`` opens a bar, and the ``Progress`` that it gives moves it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Progress = Callable[[int], None]  # called with the number of units (images, steps, ...) just finished
Track = Callable[[str, int], AbstractContextManager[Progress]]  # (description, total) -> a bar while the block runs


def ignore(count: int) -> None:
    """A ``Progress`` that nobody looks at."""


def silent(description: str, total: int) -> AbstractContextManager[Progress]:
    """A ``Track`` that shows nothing."""
    return nullcontext(ignore)


@contextmanager
def bars(description: str, total: int) -> Iterator[Progress]:
    """A ``Track`` on stderr: a bar on a terminal, a line where there is none."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{description}: {total}", file=sys.stderr, flush=True)
        yield ignore
        return
    columns = (TextColumn("{task.description:34s}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Bars(*columns, console=console) as shown:
        task = shown.add_task(description, total=total)
        yield lambda count: shown.advance(task, count)
