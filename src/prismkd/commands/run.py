"""``prismkd run``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from prismkd.commands.evaluate import print_students
from prismkd.commands.opening import held_run, opened
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import show
from prismkd.config import Config
from prismkd.config.ranges import Positive
from prismkd.progress import duration, say


@dataclass(frozen=True)
class Arguments(RunArguments):
    """All stages: prompts, adapt, synthesize, distill, evaluate, report."""

    minutes: Annotated[float | None, Positive()] = None
    """Measure this machine first; where the run would take longer than this, draw fewer images per class and train
    fewer steps, and where it has other work, compute in one thread. The run's record has what was used."""


def run(arguments: Arguments) -> None:
    """Do every stage, skipping what is done; then print the students' accuracy and where the report is."""
    start, seconds = time.monotonic(), dict[str, float]()
    if arguments.minutes is not None:
        arguments = replace(arguments, settings=_fitted(arguments, arguments.minutes))
    with held_run(arguments) as opened_run:
        from prismkd.runs.stages import stages_of

        stages = stages_of(opened_run.config)
        for number, (name, stage) in enumerate(stages.items(), 1):
            say(f"stage {number} of {len(stages)}: {name}")
            begin = time.monotonic()
            stage(opened_run)
            seconds[name] = time.monotonic() - begin
    print_students(arguments.folder())
    times = ", ".join(f"{name} {duration(taken)}" for name, taken in seconds.items())
    show(f"done in {duration(time.monotonic() - start)}: {times}")
    show(f"report: {arguments.folder() / 'report.html'}")
    show(f"next: {next_steps(opened_run.config, arguments.folder())}")


def next_steps(config: Config, folder: Path) -> str:
    """What to do with a finished run: take its student out, and use it."""
    method = "prism" if "prism" in config.methods else config.methods[-1]
    chosen = "" if method == "prism" else f" --method {method}"
    return f"`prismkd export --out {folder} --to student --dest FOLDER{chosen}`, then `prismkd predict FOLDER IMAGES`"


def _fitted(arguments: RunArguments, minutes: float) -> Config:
    """The settings with sizes that fit; a run that is there keeps its own."""
    from prismkd.records.directory import is_run, recorded_config

    settings, folder = arguments.settings, arguments.folder()
    if is_run(folder):
        return _with_sizes_of(settings, recorded_config(folder))
    measured = opened(arguments, claim=False)
    from prismkd.commands.fitting import fitting, fitting_threads, seconds_on

    if (threads := fitting_threads(measured)) != settings.num_threads:
        say(f"this machine has other work, beside which {threads} thread is faster than all: num_threads {threads}")
        settings = replace(settings, num_threads=threads)
    seconds = seconds_on(measured)
    found = fitting(settings, seconds, minutes)
    wanted, taken = (round(seconds(config)) for config in (settings, found))
    if found == settings:
        say(f"this will take about {duration(taken)} here")
        return found
    say(
        f"this would take about {duration(wanted)} here, so it is made smaller for --minutes {minutes:g}: "
        f"{found.synthesis.images_per_class} images per class instead of {settings.synthesis.images_per_class}, "
        f"{found.distillation.num_steps:,} training steps instead of {settings.distillation.num_steps:,}; about "
        f"{duration(taken)}"
    )
    return found


def _with_sizes_of(settings: Config, recorded: Config) -> Config:
    """The settings with the sizes and threads that a run was started with, whatever they were fitted to then."""
    return replace(
        settings,
        num_threads=recorded.num_threads,
        synthesis=replace(settings.synthesis, images_per_class=recorded.synthesis.images_per_class),
        distillation=replace(settings.distillation, num_steps=recorded.distillation.num_steps),
    )
