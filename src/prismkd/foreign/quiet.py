"""transformers and diffusers say nothing of what they read: what matters of it is an error, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet(*loggings: Any) -> Iterator[None]:
    """While active, the libraries of these modules (``utils.logging``) neither warn nor show progress."""
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in loggings]
    for library in loggings:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, bar) in zip(loggings, before, strict=True):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
