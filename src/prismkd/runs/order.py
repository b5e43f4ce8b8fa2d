"""The stages of a run, in the order of work; each skips what is done already."""

from __future__ import annotations

from collections.abc import Callable

from prismkd.runs.drawing import synthesize
from prismkd.runs.prompts import prompts
from prismkd.runs.run import Run
from prismkd.runs.stages import distill_students, evaluate, report

STAGES: dict[str, Callable[[Run], None]] = {
    "prompts": prompts,
    "synthesize": synthesize,
    "distill": distill_students,
    "evaluate": evaluate,
    "report": report,
}
