"""What commands print on stdout: lines, and tables or lists where the terminal is too narrow for them.

All of it goes through here, since names from elsewhere stand in it: what commands a terminal is written as an escape.
rich is imported when a table is printed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from prismkd.text import printable, visible

MAX_LINE, MAX_CELL = 10_000, 500  # characters
MIN_TEXT = 8  # columns that a cell of text is folded to before its table becomes a list


def show(text: str) -> None:
    """A line, or several, on stdout."""
    for line in text.split("\n"):
        print(visible(line[:MAX_LINE], keep="\t"))


def print_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> None:
    """A table whose first ``left`` columns are text; the others are aligned as numbers.

    Where they don't fit side by side each line becomes a block of "name: value", without what is empty.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = printable(title)
    header, lines = [_cell(name) for name in header], [[_cell(cell) for cell in line] for line in lines]
    console = Console(emoji=False)
    if _narrowest(header, lines, left) > console.width:
        print(_as_list(title, header, lines, console.width))
        return
    table = Table(title=escape(title))
    for place, name in enumerate(header):
        if place < left:
            table.add_column(escape(name), overflow="fold")
        else:  # numbers are never broken
            widest = max([len(line[place]) for line in lines], default=0)
            table.add_column(escape(name), justify="right", overflow="fold", min_width=widest)
    for line in lines:
        table.add_row(*map(escape, line))
    console.print(table)


def _cell(text: str) -> str:
    return visible(text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}...")


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
