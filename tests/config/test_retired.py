"""Settings that earlier versions had: their runs go on where these were off."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from prismkd.config import Config, GuidanceConfig
from prismkd.config.embedded import resolved
from prismkd.config.retired import RETIRED_GUIDANCE
from prismkd.errors import UserError
from prismkd.records.directory import recorded_config

ON = {"batch_norm_weight": 0.1, "prototype_weight": 1.0, "react_quantile": 0.9, "smooth_backward": True, "adam": True,
      "x0_noise": 0.1, "full_decoder": True}  # fmt: skip


def recorded(folder: Path, **guidance: Any) -> Config:
    """The settings of a run of an earlier version with these."""
    settings = asdict(Config())
    settings["guidance"] |= {**RETIRED_GUIDANCE, **guidance}
    record = {"config": settings, "classes": [], "command": "", "started": ""}
    (folder / "run.json").write_text(json.dumps(record))
    return recorded_config(folder)


def test_a_run_that_had_them_off_is_read_as_one_without_them(tmp_path: Path) -> None:
    assert recorded(tmp_path) == resolved(Config())
    assert recorded(tmp_path, strength=0.3).guidance == GuidanceConfig(strength=0.3)


@pytest.mark.parametrize("name", RETIRED_GUIDANCE)
def test_a_run_that_had_one_on_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"expected guidance\.{name} = .*run\.json.*; go on with the version") as error:
        recorded(tmp_path, **{name: ON[name]})
    assert f"got {ON[name]}; " in str(error.value) and "\n" not in str(error.value)


def test_no_setting_is_retired_and_there() -> None:
    assert not RETIRED_GUIDANCE.keys() & {field.name for field in fields(GuidanceConfig)}
