"""A table as plain data that the template writes as HTML, and tables of scores with the best of each column marked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from prismkd.config.methods import REFERENCES
from prismkd.records.scores import Score, best
from prismkd.report import names


@dataclass(frozen=True)
class Cell:
    """Text of a cell; `value` sorts it, `bar` in [0, 1] draws a bar, `tone` is "", "ahead" or "behind"."""

    text: str
    value: float | None = None
    note: str = ""
    best: bool = False
    bar: float | None = None
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """First cell (the row's heading) and the rest; `style` are CSS classes."""

    label: str
    cells: list[Cell]
    note: str = ""
    style: str = ""


@dataclass(frozen=True)
class Column:
    """Heading of a column, with an explanation where its name needs one."""

    label: str
    hint: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table with its caption; `columns` includes the first. What rows mean is explained once on a page."""

    caption: str
    columns: list[Column]
    rows: list[Row] = field(default_factory=list)
    explains_rows: bool = False

    @property
    def hints(self) -> dict[str, str]:
        """What the names of columns and rows mean, each meaning once."""
        named = [(column.label, column.hint) for column in self.columns if column.hint]
        named += [(row.label, row.note) for row in self.rows if row.note and self.explains_rows]
        first: dict[str, str] = {}
        for label, meaning in named:  # "ECE, original" and "ECE, shifted" mean the same: one line for both
            first.setdefault(meaning, label)
        return {label: meaning for meaning, label in first.items()}


@dataclass(frozen=True)
class Head:
    """Heading of a method's row; ``reference`` rows have seen real data and are never best."""

    label: str
    note: str = ""
    style: str = ""
    reference: bool = False


@dataclass(frozen=True)
class ScoreColumn:
    """One column of scores by row key: how to write them, and whether max or min is best.

    ``marked``: the keys to mark instead of the best one's, where it is known who can be told apart.
    """

    column: Column
    scores: dict[Any, Score | None]
    write: Callable[[float], str]
    best: Callable[..., float] | None = max
    marked: frozenset[Any] | None = None


def method_head(method: str, suffix: str = "") -> Head:
    """The heading that a method's rows have in every table."""
    style = names.method_class(method) + (" reference" if method in REFERENCES else "")
    return Head(names.method_label(method) + suffix, names.method_note(method), style, method in REFERENCES)


def score_table(
    caption: str, corner: str, columns: list[ScoreColumn], heads: Mapping[Any, Head], explains_rows: bool = False
) -> Table | None:
    """A row for each key of `heads` that has any score, the best data-free score of each column marked."""
    rivals = {key for key, head in heads.items() if not head.reference}  # who saw real data can't be best without it
    winners = [_winners(column, rivals) for column in columns]
    table = Table(caption, [Column(corner, numeric=False), *(c.column for c in columns)], explains_rows=explains_rows)
    for key, head in heads.items():
        cells = [
            _score_cell(c.scores.get(key), c.write, key in winner) for c, winner in zip(columns, winners, strict=True)
        ]
        if any(cell.value is not None for cell in cells):
            table.rows.append(Row(head.label, cells, head.note, head.style))
    return table if table.rows else None


def _winners(column: ScoreColumn, rivals: set[Any]) -> Collection[Any]:
    if column.marked is not None or column.best is None:
        return column.marked or ()
    return best({key: score for key, score in column.scores.items() if key in rivals}, column.best, ())


def _score_cell(value: Score | None, write: Callable[[float], str], is_best: bool) -> Cell:
    if value is None:
        return Cell("\u2013")
    note = "" if value.spread is None else f"\u00b1\u2009{write(value.spread)}"
    return Cell(write(value.mean), value.mean, note, is_best)
