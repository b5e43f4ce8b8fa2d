"""Any input gives a value or one line, soon, without a connection and without a file outside of its folder.

Few inputs are tried here, the same ones each time; ``python -m benchmarks.fuzz`` tries as many as you have time for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.corpus import kept, load
from tests.fuzz.mutations import Case
from tests.fuzz.targets import FAMILIES
from tests.fuzz.trying import Workspace

NUM_INPUTS, NUM_SLOW = 60, 12
Workspaces = Callable[[str], Workspace]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reader_takes_the_valid_input_and_fails_on_no_other(name: str, workspace: Workspaces) -> None:
    found = workspace(name)
    valid = found.read({})
    assert valid.kind == "accepted", valid

    # A failing input isn't made smaller, which takes minutes: the long form does that
    @settings(
        max_examples=NUM_SLOW if found.family.slow else NUM_INPUTS, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(found.cases())
    def read(case: Case) -> None:
        fail_on(found, case)

    read()


@pytest.mark.parametrize(
    ("name", "path"), list(kept()), ids=lambda value: value.stem if isinstance(value, Path) else value
)
def test_what_a_reader_once_failed_on_is_refused_or_read(name: str, path: Path, workspace: Workspaces) -> None:
    found = workspace(name)
    fail_on(found, load(path, found.base))


def fail_on(found: Workspace, case: Case) -> None:
    """Read a case; fail with the reader's own traceback where it has one."""
    outcome = found.read(case)
    if not outcome.good:
        raise AssertionError(f"{outcome.kind}: {outcome.text}") from outcome.error
