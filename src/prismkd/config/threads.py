"""How the threads of torch's OpenMP wait for each other; has to be said before torch is imported."""

from __future__ import annotations

import os

WAIT_POLICY = "OMP_WAIT_POLICY"


def wait_passively() -> None:
    """Let threads sleep while they wait, unless the user's environment says how they are to.

    Threads that spin at a barrier take the core from whoever has yet to arrive there: beside another busy process two
    threads then draw a fraction of what one would (docs/synthesis.md has the figures). The variable is OpenMP's own;
    GNU's runtime, which torch's wheels for Linux bring along, and LLVM's and Intel's obey it, and let their finer ones
    (``GOMP_SPINCOUNT``, ``KMP_BLOCKTIME``) win over it.
    """
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
