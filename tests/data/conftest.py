"""Small image files of every layout."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw() -> Callable[..., bytes]:
    """Encode an image that is ``value`` everywhere: (value, size, mode, format) to bytes."""

    def _draw(value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB", format: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        pixels = np.full((size[1], size[0]), value, np.uint8)
        Image.fromarray(pixels).convert(mode).save(buffer, format=format)
        return buffer.getvalue()

    return _draw


@pytest.fixture
def write(draw: Callable[..., bytes]) -> Callable[..., Path]:
    """Write an image that is ``value`` everywhere, and the folders above it."""

    def _write(path: Path, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw(value, size, mode, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"))
        return path

    return _write
