"""``prismkd adapt``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prismkd.commands.opening import do_stage
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table, show
from prismkd.config.methods import METHODS
from prismkd.errors import UserError


@dataclass(frozen=True)
class Arguments(RunArguments):
    """The generator learns from the teacher, without data: an adapter for the methods that are adapted."""


def adapt(arguments: Arguments) -> None:
    """Train the adapter; then print what the teacher said of its images meanwhile."""
    if not any(METHODS[method].adapted for method in arguments.settings.methods if method in METHODS):
        adapted = " or ".join(method.name for method in METHODS.values() if method.adapted)
        raise UserError(f"expected a method that draws with an adapter, got none; add {adapted} to methods")
    do_stage(arguments, "adapt", before_end=lambda: print_adaptation(arguments.folder()))


def print_adaptation(out: Path) -> None:
    """The teacher's looks at the images of the adapter, and which step was kept."""
    from prismkd.records.directory import ADAPTATION, adapter_folder, read_json
    from prismkd.records.shapes import AdaptationRecord

    record = read_json(adapter_folder(out) / ADAPTATION, AdaptationRecord)
    rows = {f"{check['step']:,}{' (kept)' if check['step'] == record['chosen_step'] else ''}": check
            for check in record["checks"]}  # fmt: skip
    rows["no adapter, but EDA"] = record["guided"]
    lines = [[name, f"{check['energy']:.3f}", f"{check['agreement']:.3f}", f"{check['diversity']:.2f}"]
             for name, check in rows.items()]  # fmt: skip
    header = ["step", "energy", "teacher agrees", "diversity (Vendi)"]
    print_table("Images of the adapter, unguided, as the teacher sees them", header, lines, left=1)
    if record["stopped"]:
        show("ended early: the images lost more diversity than adaptation.max_diversity_loss allows")
    if not record["chosen_step"]:
        show("no step was better than no adapter, so this one changes nothing")
