"""What guidance costs relative to unguided sampling, and what its rivals cost.

Usage: python -m benchmarks.cost [--json] [--steps N] [--views K]
       python -m benchmarks.cost --record && python -m benchmarks.publish

It prints a table, or JSON; with --record it writes ``benchmarks/results/guidance_cost.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from prismkd.config import GeneratorConfig, GuidanceConfig
from prismkd.errors import UserError

if TYPE_CHECKING:
    from benchmarks.cost.rows import Row

GENERATORS = ("embedded", "sd-1.5", "sdxl", "dit-xl")
CAPTION = (
    "Per image, with classifier-free guidance; ratios are to no guidance in the same run. Share 1 is the worst case: "
    "every image takes a gradient at every guided step (by x0: after a check whether it needs one); below 1 it is "
    "calibrated guidance as it is used. The image itself is always decoded fully; text encoding isn't counted. The "
    "teacher is a ResNet-50 at 224, the embedded generator's its own."
)


@dataclass(frozen=True)
class CostSettings:
    """What guidance costs: FLOPs, seconds and memory per image, as ratios to unguided sampling in the same run.

    FLOPs are counted without running anything. Seconds are measured on the embedded generator, and where there is a
    GPU on SD 1.5, SDXL and DiT-XL shapes with random weights in bfloat16.
    """

    steps: int = 20
    """Denoising steps per image."""
    views: int = GuidanceConfig.num_views
    """Augmented views per gradient."""
    generators: tuple[str, ...] = GENERATORS
    """Which generators: embedded, sd-1.5, sdxl, dit-xl."""
    seconds: bool = True
    """Measure seconds, else count FLOPs only."""
    images: int = GeneratorConfig.batch_size
    """Images of the embedded generator drawn together when seconds are measured."""
    rounds: int = 5
    """How often every way of guiding is timed, in turns; medians are printed."""
    calibration_images: int = GuidanceConfig.num_calibration_images
    """Unguided images of the embedded generator that set the target energies."""
    json: bool = False
    """Print the rows as JSON in place of a table."""
    record: bool = False
    """Store the rows in benchmarks/results, where the docs take them from."""


def main(arguments: list[str]) -> None:
    """Count, time and print, as the command line says.

    Raises:
        UserError: a setting out of range.
    """
    import tyro

    settings = tyro.cli(CostSettings, args=arguments, prog="python -m benchmarks.cost")
    check_settings(settings)
    rows = measure(settings, lambda text: print(text, file=sys.stderr, flush=True))
    if settings.record:
        from benchmarks.publish import write_results

        data = {"rows": [asdict(row) for row in rows]}
        write_results("guidance_cost", "python -m benchmarks.cost --record", [], data)
    if settings.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print_table(rows, settings)


def check_settings(settings: CostSettings) -> None:
    """Refuse what the types allow and the benchmark can't do.

    Raises:
        UserError: a value out of range, with the range.
    """
    for name in ("steps", "views", "images", "rounds", "calibration_images"):
        value = getattr(settings, name)
        if value < 1:
            raise UserError(f"expected --{name.replace('_', '-')} of at least 1, got {value}; raise it")
    if settings.steps > 1000:
        raise UserError(f"expected --steps of at most 1000, the schedules' length, got {settings.steps}; lower it")
    unknown = [name for name in settings.generators if name not in GENERATORS]
    if unknown or not settings.generators:
        raise UserError(
            f"expected --generators among {', '.join(GENERATORS)}, got {', '.join(unknown) or 'none'}; choose of these"
        )


def measure(settings: CostSettings, note: Callable[[str], None]) -> list[Row]:
    """All rows, in the order of ``settings.generators``; ``note`` gets lines of progress."""
    from benchmarks.cost.rows import EMBEDDED, embedded_rows, shape_rows

    config = GuidanceConfig(num_views=settings.views, num_calibration_images=settings.calibration_images)
    rows: list[Row] = []
    for name in settings.generators:
        note(f"{name}: counting FLOPs" + (", then seconds" if settings.seconds else ""))
        if name == EMBEDDED:
            rows += embedded_rows(settings.steps, config, settings.images, settings.rounds, settings.seconds, note)
        else:
            rows += shape_rows(name, settings.steps, config, settings.rounds, settings.seconds)
    return rows


def print_table(rows: list[Row], settings: CostSettings) -> None:
    """Print the rows, a section per generator; what was not measured is a dash."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Cost of guidance: {settings.steps} steps, {settings.views} views", caption=CAPTION)
    for column in ("generator", "gradient", "decoder"):
        table.add_column(column, no_wrap=True)
    for column in ("guided steps", "share", "GFLOPs", "FLOPs ratio", "ms", "seconds ratio", "GiB"):
        table.add_column(column, justify="right")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.shape != row.shape:
            table.add_section()
        cells = [row.gflops, row.flops_ratio, row.seconds and 1000 * row.seconds, row.seconds_ratio, row.memory_gib]
        formats = ("{:,.2f}" if row.gflops < 100 else "{:,.0f}", "{:.3f}", "{:,.1f}", "{:.3f}", "{:.1f}")
        texts = ["-" if cell is None else form.format(cell) for cell, form in zip(cells, formats, strict=True)]
        share = f"{row.guided_share:.2f}" if row.guided_steps else "-"
        table.add_row(row.shape, row.gradient, row.decoder, str(row.guided_steps), share, *texts)
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
