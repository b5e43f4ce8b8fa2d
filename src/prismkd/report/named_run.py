"""A run among several on one page, with the letter, the name and the color that it goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prismkd.records.results import RunResults, load_run
from prismkd.records.scores import subject
from prismkd.report.provenance import run_name


@dataclass(frozen=True)
class NamedRun:
    """A run with the letter and the name that it goes by on the page."""

    letter: str
    name: str
    run: RunResults

    @property
    def title(self) -> str:
        """As "A, baseline"."""
        return f"{self.letter}, {self.name}"

    @property
    def style(self) -> str:
        """CSS class that colors the run."""
        return f"r-{self.letter.lower()}"

    @property
    def student(self) -> str:
        """The method that the page is about."""
        return subject(self.run.results)[0]


def load_runs(folders: Sequence[Path]) -> list[NamedRun]:
    """Runs by the names of their folders, by their paths where names are shared."""
    short = [run_name(folder) for folder in folders]
    return [
        NamedRun(chr(ord("A") + place), name if short.count(name) == 1 else str(folder), load_run(folder))
        for place, (folder, name) in enumerate(zip(folders, short, strict=True))
    ]
