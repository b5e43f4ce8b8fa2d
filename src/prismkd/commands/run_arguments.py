"""What every command that works on a run is given: the run's folder, and its settings from a file and from flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from prismkd.config import Config
from prismkd.errors import UserError


@dataclass(frozen=True)
class RunArguments:
    """Settings and the folder of a run; commands add their own options."""

    config: Path | None = None
    """TOML file with settings; flags win over it."""
    out: str | None = None
    """The run's folder. Without --config, a run that is there goes on with the settings that it was started with."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)  # --seeds, not --settings.seeds
    """All settings, from the file or the run's record, and the flags on top."""
    command_line: tyro.conf.Suppress[str] = "prismkd"
    """What was typed, for the run's record."""
    from_record: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Reserved settings (``config/authority.py``) that the run's record names, and the command doesn't."""

    def folder(self) -> Path:
        """The run's folder.

        Raises:
            UserError: none was named, or it is a URL.
        """
        if self.out is None:
            raise UserError("expected --out DIR, got none; name the run's folder")
        from prismkd.records.directory import run_folder  # here, since numpy comes with it, which no help needs

        return run_folder(self.out)
