"""The stages in order: each reads a part of the run's folder, writes the next, and skips what is there already."""

from __future__ import annotations

from collections.abc import Callable

from prismkd.config import METHODS, Config
from prismkd.report import write_report
from prismkd.runs.drawing import synthesize
from prismkd.runs.measuring import evaluate
from prismkd.runs.planning import write_plans
from prismkd.runs.run import Run
from prismkd.runs.training import distill_students


def adapt_generator(run: Run) -> None:
    """Train the generator's adapter, which the adapted methods draw with; writes the folder ``adapter``."""
    _ = run.adapter


def report(run: Run) -> None:
    """Write ``report.html``."""
    write_report(run.directory)


STAGES: dict[str, Callable[[Run], None]] = {  # by the name of their command
    "prompts": write_plans,
    "adapt": adapt_generator,
    "synthesize": synthesize,
    "distill": distill_students,
    "evaluate": evaluate,
    "report": report,
}


def stages_of(config: Config) -> dict[str, Callable[[Run], None]]:
    """The stages of a run with these settings, by name and in order: without an adapted method nothing is adapted."""
    adapts = any(METHODS[method].adapted for method in config.methods)
    return {name: stage for name, stage in STAGES.items() if adapts or name != "adapt"}
