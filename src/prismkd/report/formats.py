"""How numbers are written in the report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prismkd.records.scores import Score


def percent(value: float) -> str:
    """0.753 -> "75.3"."""
    return number(100 * value, 1)


def number(value: float, decimals: int) -> str:
    """A number with a true minus sign, never "-0.0"."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\u2212")


def signed(value: float, decimals: int) -> str:
    """As `number`, with a plus sign."""
    text = number(value, decimals)
    return f"+{text}" if value > 0 and float(text) != 0 else text


def duration(seconds: float) -> str:
    """3723 -> "1 h 2 min"; 75 -> "1 min 15 s"; 3.21 -> "3.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {round(seconds) % 60} s"


def uncertainty(score: Score, write: Callable[[float], str]) -> str:
    """How far a mean may be off: "\u00b1 0.4" over seeds, the only seed's "82.1 to 86.4", or nothing."""
    if score.spread is not None:
        return f"\u00b1\u2009{write(score.spread)}"
    return range_text(score.interval, write) if score.interval else ""


def range_text(interval: tuple[float, float], write: Callable[[float], str]) -> str:
    """ "82.1 to 86.4"."""
    return f"{write(interval[0])} to {write(interval[1])}"


def decimals(count: int) -> Callable[[float], str]:
    """A function that writes numbers with so many decimals: ``decimals(2)(0.1)`` is "0.10"."""
    return partial(number, decimals=count)
