"""Tables on stdout, or lists where the terminal is too narrow for them; rich is imported when one is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

MIN_TEXT = 8  # columns that a cell of text is folded to before its table becomes a list


def print_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> None:
    """A table whose first ``left`` columns are text; the others are aligned as numbers.

    Where they don't fit side by side each line becomes a block of "name: value", without what is empty.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(emoji=False)
    if _narrowest(header, lines, left) > console.width:
        print(_as_list(title, header, lines, console.width))
        return
    table = Table(title=title)
    for place, name in enumerate(header):
        if place < left:
            table.add_column(name, overflow="fold")
        else:  # numbers are never broken
            widest = max([len(line[place]) for line in lines], default=0)
            table.add_column(name, justify="right", overflow="fold", min_width=widest)
    for line in lines:
        table.add_row(*map(escape, line))
    console.print(table)


def _narrowest(header: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> int:
    """Columns of the terminal that a readable table takes at least: whole numbers, whole words of the header."""
    total = 1
    for place, name in enumerate(header):
        cells = max([len(line[place]) for line in lines], default=0)
        words = max((len(word) for word in name.split()), default=0)
        total += 3 + max(words, min(cells, MIN_TEXT) if place < left else cells)
    return total


def _as_list(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], width: int) -> str:
    """The same as blocks of "name: value"."""
    wrapped = textwrap.wrap(title, width)
    for line in lines:
        wrapped.append("")
        for name, cell in zip(header, line, strict=True):
            if cell:
                text = f"{name}: {cell}" if name else cell
                wrapped += textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(wrapped)


def printable(text: str) -> str:
    """A name from outside, without what would control a terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
