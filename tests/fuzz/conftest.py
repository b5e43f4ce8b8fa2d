"""The folder of each family's valid input, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.fuzz.trying import Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Workspace]:
    """The workspace of a family's name."""
    return cache(lambda name: Workspace(name, tmp_path_factory.mktemp(name) / "input"))
