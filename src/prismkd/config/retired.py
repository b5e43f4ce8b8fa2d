"""Settings of guidance that earlier versions had: their runs and data sets still name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.text import shortened

# By name, each with the default at which it was off: with these, guidance was what it is now.
RETIRED_GUIDANCE: dict[str, Any] = {
    "batch_norm_weight": 0.0,
    "prototype_weight": 0.0,
    "react_quantile": 1.0,
    "smooth_backward": False,
    "adam": False,
    "x0_noise": 0.0,
    "full_decoder": False,
}


def without_retired(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a record without those that are retired.

    Args:
        settings: all of a run's, of any version, as its record has them.
        path: of the record, for the error.

    Raises:
        UserError: one of these was on, so that this version can't go on with the run.
    """
    guidance = settings.get("guidance")
    if not isinstance(guidance, dict):  # missing, or damaged, which is said where settings are read
        return settings
    for name, default in RETIRED_GUIDANCE.items():
        if guidance.get(name, default) != default:
            raise UserError(
                f"expected guidance.{name} = {default} in {path}, as there is no such setting any more, got "
                f"{shortened(guidance[name])}; go on with the version of prismkd that made the run, or choose another "
                "--out"
            )
    return {**settings, "guidance": {name: value for name, value in guidance.items() if name not in RETIRED_GUIDANCE}}
