"""Reading one input: whether it gave a value or a refusal, or what else happened."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis.strategies import SearchStrategy

from prismkd.errors import UserError
from prismkd.text import printable, shortened
from tests.fuzz.guard import watched
from tests.fuzz.mutations import Case
from tests.fuzz.targets import FAMILIES

HANG = 10.0  # seconds


@dataclass(frozen=True)
class Outcome:
    """What came of an input.

    Attributes:
        kind: accepted, refused, traceback, outside (it connected, wrote elsewhere, ran something) or slow.
        text: the refusal, or what went wrong and where: the same text for the same fault.
        error: that was raised.
    """

    kind: str
    text: str = ""
    error: BaseException | None = None

    @property
    def good(self) -> bool:
        return self.kind in ("accepted", "refused")


class Shown(dict[str, bytes | None]):
    """A case that is short where hypothesis prints it."""

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {shortened(contents)}' for name, contents in self.items())}}}"


class Workspace:
    """A folder with a valid input of a family, into which changed files are put one case at a time."""

    def __init__(self, name: str, folder: Path) -> None:
        self.family, self.folder = FAMILIES[name], folder
        folder.mkdir(parents=True)
        with quiet():
            self.family.make(folder)
            self.family.read(folder)  # imports what it needs, which starts processes and takes its time
        self.base = {path: (folder / path).read_bytes() for path in self._files()}
        self._stamps = {path: self._stamp(path) for path in self.base}

    def cases(self) -> SearchStrategy[Case]:
        """Changed inputs."""
        return self.family.mutate(self.base).map(Shown)

    def read(self, case: Case) -> Outcome:
        """Put a case's files into the folder, read it, and put everything back."""
        with self._holding(case):
            start = time.monotonic()
            with watched(self.folder) as seen, quiet():
                outcome = self._outcome()
            if seen:
                return Outcome("outside", "; ".join(sorted(set(seen))[:3]).replace(str(self.folder), "."))
            if outcome.good and time.monotonic() - start > HANG:
                return Outcome("slow", f"{time.monotonic() - start:.0f} s")
            return outcome

    def _outcome(self) -> Outcome:
        try:
            self.family.read(self.folder)
        except self.family.refusals as error:
            line = printable(str(error))
            if isinstance(error, UserError) and not ("expected" in line and "; " in line):
                said = line.partition(", got")[0]
                return Outcome("traceback", f"a line without what was expected or what to do: {said}", error)
            return Outcome("refused", line)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, it is what is looked for
            return Outcome("traceback", signature(error), error)
        return Outcome("accepted")

    @contextlib.contextmanager
    def _holding(self, case: Case) -> Iterator[None]:
        for name, contents in case.items():
            path = self.folder / name
            if contents is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(contents)
        try:
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        """Whatever the case or its reader changed becomes the valid input again."""
        for name in self._files() - self.base.keys():
            (self.folder / name).unlink()
        for name, contents in self.base.items():
            if self._stamp(name) != self._stamps[name]:
                path = self.folder / name
                if path.is_dir():
                    shutil.rmtree(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(contents)
                self._stamps[name] = self._stamp(name)

    def _files(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir()}

    def _stamp(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = (self.folder / name).lstat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def signature(error: BaseException) -> str:
    """An error's type, and where it left our code and where it came from: the same for the same fault."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/prismkd/" in frame.filename and "/tests/" not in frame.filename]
    places = [f"{_short(frame.filename)}:{frame.name}" for frame in (*ours[-1:], *frames[-1:])]
    return f"{type(error).__name__} in {' from '.join(dict.fromkeys(places))}"


def _short(file: str) -> str:
    for mark in ("/prismkd/", "/site-packages/", "/lib/"):
        if mark in file:
            return file.rpartition(mark)[2]
    return file.rpartition("/")[2]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what readers print and warn of."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
