"""Files of a classifier are as readable as the user's umask says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from torch import nn

from prismkd.classifiers import load_classifier, save_classifier


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_have_the_modes_of_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        save_classifier(tmp_path / "student", network, {"architecture": "linear", "num_classes": 2})
    finally:
        os.umask(before)
    for path in (tmp_path / "student").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path.name
    assert load_classifier(tmp_path / "student", network).num_classes == 2
