"""Tables on stdout; rich is imported when one is printed."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> None:
    """A table whose first ``left`` columns are text; the others are aligned as numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title)
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line))
    Console(emoji=False).print(table)


def printable(text: str) -> str:
    """A name from outside, without what would control a terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
