"""Cells are measured once, and only where settings and world are the same; what is recorded is of one such place."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cells, publish
from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import SUBSET, embedded_session


def test_a_cell_is_measured_once(tmp_path: Path) -> None:
    measured = list[int]()

    def measure() -> dict[str, Any]:
        measured.append(1)
        return {"top1": {"id": 0.5}}

    store = Cells(tmp_path)
    assert not store.has("arm strength 0.8 0")
    assert store.get("arm strength 0.8 0", measure) == store.get("arm strength 0.8 0", measure)
    assert store.has("arm strength 0.8 0") and not store.has("arm strength 0.4 0")
    assert len(measured) == 1


def test_other_settings_and_another_world_have_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    session = embedded_session()
    folder = folder_of("eda", session, 50)
    assert folder_of("eda", embedded_session(), 50) == folder
    stronger = replace(SUBSET, guidance=replace(SUBSET.guidance, strength=1.2))
    others = [folder_of("eda", session, 51), folder_of("eda", embedded_session(400), 50),
              folder_of("eda", embedded_session(config=stronger), 50)]  # fmt: skip
    monkeypatch.setattr(cells, "world_digest", lambda: "other weights")
    assert len({folder, *others, folder_of("eda", session, 50)}) == 5


def test_parts_of_other_cells_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cells, publish):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    for folder, part in (("eda-1", "sweep"), ("eda-2", "sweep"), ("eda-2", "curve")):
        Cells(tmp_path / folder).record("eda", "command", (0,), part, [folder])
    recorded = json.loads((tmp_path / "eda.json").read_text())
    assert (recorded["sweep"], recorded["curve"], recorded["cells"]) == (["eda-2"], ["eda-2"], "eda-2")
    Cells(tmp_path / "eda-3").record("eda", "command", (0,), "curve", [])
    assert "sweep" not in json.loads((tmp_path / "eda.json").read_text())
