"""The one block in which a library opens what somebody else made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from prismkd.errors import UserError
from prismkd.foreign.budget import Budget, no_larger_than
from prismkd.foreign.offline import offline, unasked
from prismkd.text import printable

MAX_REASON = 200  # characters of what a library says
# These aren't about the input, so a library's own error around one of them isn't, either
NOT_OF_THE_INPUT = (KeyboardInterrupt, SystemExit, MemoryError)


@contextmanager
def opening(what: str, remedy: str, *, local: bool = True, budget: Budget | None = None) -> Iterator[None]:
    """Call a library here: whatever it says of the input becomes one line.

    Args:
        what: it should be, and where: ``an image classifier of transformers in FOLDER``.
        remedy: what the user should do.
        local: whether it is on this machine; then nothing is fetched, whatever it names.
        budget: the size of the weights, which no network that is built meanwhile may exceed; None: any size.

    Raises:
        UserError: with the library's reason. Out of memory, Ctrl-C and the end of the process stay what they are, even
            where the library put an error of its own around them.
    """
    size = nullcontext() if budget is None else no_larger_than(budget)
    try:
        with offline() if local else unasked(), size:
            yield
    except UserError:
        raise
    except Exception as error:  # libraries that read what anybody may have written raise errors of any kind
        for cause in _causes(error):
            if isinstance(cause, NOT_OF_THE_INPUT):
                raise cause from None
        raise UserError(f"expected {what}, got {_reason(error)}; {remedy}") from None


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Say of what source an error is that doesn't name it, such as one of the network in it."""
    try:
        yield
    except UserError as error:
        if source in str(error):
            raise
        raise UserError(f"{source}: {error}") from None


def first_line(error: BaseException) -> str:
    """The first line of what another library says, shortened; its kind where it says nothing."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = printable(lines[0])
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]} ..."


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "lists or tables that are too deep in each other"
    line = first_line(error)
    # A KeyError says 'name', and an assertion often nothing
    bare = isinstance(error, LookupError | AssertionError | AttributeError | TypeError)
    return f"{type(error).__name__}: {line}" if bare and line != type(error).__name__ else line


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it."""
    seen = set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
