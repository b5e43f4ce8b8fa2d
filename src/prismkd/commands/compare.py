"""``prismkd compare``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from prismkd.commands.tables import print_table, show

if TYPE_CHECKING:
    from prismkd.records.comparison import Comparison


@dataclass(frozen=True)
class Arguments:
    """Two runs, or two methods of one, on the same test images: which is better, and could it be chance?"""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """One run's folder, or two: A, then B."""
    methods: tuple[str, ...] = ()
    """A's method and B's, or one for both; of one run two."""
    json: bool = False
    """Print JSON."""


def compare(arguments: Arguments) -> None:
    """Print B against A, paired by test image and seed."""
    from prismkd.records.comparison import compare

    found = compare(arguments.runs, arguments.methods)
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print_comparison(found)


def print_comparison(found: Comparison) -> None:
    """B against A on every domain, and what is to be said."""
    lines = []
    for row in found.rows:
        low, high = (f"{100 * bound:+.1f}" for bound in row.interval)
        lines.append([row.domain, f"{row.num_images:,}", f"{row.top1_a:.3f}", f"{row.top1_b:.3f}",
                      f"{100 * row.difference:+.1f}", f"{low} to {high}", f"{row.p_holm:.2g}"])  # fmt: skip
    header = ["domain", "images", f"A: {found.a.name}", f"B: {found.b.name}", "B - A", "95 % interval", "p"]
    seeds = ", ".join(map(str, found.seeds))
    what = "Top-1" if found.measure == "top1" else "Agreement with the teacher"
    print_table(f"{what} on the same images, differences in points, seeds {seeds}", header, lines, left=1)
    show("p: exact sign test over images, Holm-corrected over domains; interval: bootstrap over images and seeds")
    show(found.sentence())
