"""How the threads of torch's OpenMP wait for each other; has to be said before torch is imported."""

from __future__ import annotations

import os

# OpenMP's own variable, which all runtimes obey, and the finer one of GNU's, which torch's wheels for Linux bring
# along: some microseconds of spinning, in which an idle machine's threads nearly always arrive (docs/synthesis.md).
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}


def wait_passively() -> None:
    """Let threads soon sleep while they wait, unless the user's environment says how they are to.

    Threads that spin at a barrier take the core from whoever has yet to arrive there: beside other busy processes two
    threads then draw a fraction of what one would.
    """
    if not WAITING.keys() & os.environ.keys():
        os.environ.update(WAITING)


def how_to_wait() -> dict[str, str]:
    """The variables for processes that don't inherit this one's."""
    given = {name: os.environ[name] for name in WAITING if name in os.environ}
    return given or WAITING
