"""What a training is made with, noted beside its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prismkd.config import DistillationConfig
from prismkd.runs import aside


@pytest.mark.parametrize("note", ["", "{", "[1]", "\0"])
def test_a_checkpoint_beside_a_damaged_note_is_kept_aside(
    note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aside, "recipe_record", lambda *_: {"num_steps": 3})
    run = SimpleNamespace(inputs=SimpleNamespace(of_student=lambda *_: {"images": "digest"}))
    dataset: Any = SimpleNamespace(folder=tmp_path, num_images=8, title="plain (seed 0)", run=run)
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "checkpoint.pt").write_text("weights")
    (folder / "training.json").write_text(note)
    aside.begin_training(dataset, "student", DistillationConfig())
    assert (folder / "checkpoint-damaged.pt").read_text() == "weights" and not (folder / "checkpoint.pt").exists()
    noted = json.loads((folder / "training.json").read_text())
    assert noted == {"recipe": {"num_steps": 3}, "images": 8, "inputs": {"images": "digest"}}
    assert "got one beside a damaged training.json; it is kept as checkpoint-damaged.pt" in capsys.readouterr().err
