"""Every seed is derived from the run's, by the path to what it is for."""

from __future__ import annotations

import hashlib
import json


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
