"""Which test images a student gets right, as ``evaluation.json`` keeps them, and the order of their domains."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import numpy as np


def pack_hits(hits: np.ndarray) -> str:
    """Zeros and ones (n,) as base64 text, eight to a byte: a run keeps them for every student and domain."""
    return base64.b64encode(np.packbits(hits.astype(bool)).tobytes()).decode()


def unpack_hits(text: str, n: int) -> np.ndarray:
    """The zeros and ones (n,), int8, that ``pack_hits`` made into ``text``.

    Raises:
        ValueError: another text, or one of another number.
    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != -(-n // 8):
        raise ValueError(f"{len(packed)} bytes for {n} hits")
    return np.unpackbits(packed, count=n).astype(np.int8)


def domain_order(domains: Iterable[str]) -> list[str]:
    """The different names among ``domains``: ``id``, the teacher's own, first, then the others by name."""
    return sorted({str(name) for name in domains}, key=lambda name: (name != "id", name))
