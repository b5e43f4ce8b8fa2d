"""Every seed is derived from the run's, by the path to what it is for; which seeds there are, for every way in."""

from __future__ import annotations

import hashlib
import json
import operator
from typing import Any

from prismkd.errors import UserError
from prismkd.text import shortened

MAX_SEED = 2**63 - 1  # TOML's numbers and torch's generators end here


def check_seed(seed: Any, name: str = "seed") -> int:
    """A caller's seed as an int: a whole number from 0 to 2^63 - 1, of whatever kind, such as numpy's.

    Args:
        seed: that was given.
        name: what the caller calls it.

    Raises:
        UserError: it is another one.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_SEED or isinstance(seed, bool):
        raise UserError(f"expected a whole number from 0 to {MAX_SEED} for {name}, got {shortened(seed)}; choose one")
    return number


def derive(seed: int, *path: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, such as ``derive(seed, "batch", step)``.

    Args:
        seed: any whole number, of whatever sign and size.
        path: words and numbers that name the purpose; another path gives another, unrelated seed.
    """
    # Sums such as 1000 * seed + step meet each other (seed 0 at step 1000 is seed 1 at step 0), and need ranges that no
    # run may leave. A hash needs neither; 63 bits, because every generator takes a positive int64.
    # Words are in quotes and numbers aren't, so no two paths have the same text. ``derive(seed, index)`` is the seed of
    # image ``index``: all data sets so far were drawn with it, so its text must stay.
    parts = [json.dumps(part) if isinstance(part, str) else str(int(part)) for part in (seed, *path)]
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
