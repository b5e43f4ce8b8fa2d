"""The stages in order: each reads a part of the run's folder, writes the next, and skips what is there already."""

from __future__ import annotations

from collections.abc import Callable

from prismkd.config import METHODS
from prismkd.report import write_report
from prismkd.runs.drawing import synthesize
from prismkd.runs.measuring import evaluate
from prismkd.runs.planning import write_plans
from prismkd.runs.run import Run
from prismkd.runs.training import distill_students


def adapt_generator(run: Run) -> None:
    """Train the generator's adapter, where a method draws with one; writes the folder ``adapter``."""
    if any(METHODS[method].adapted for method in run.config.methods):
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
