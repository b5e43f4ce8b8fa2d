"""``prismkd survival``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prismkd.commands.opening import held_run
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table, show

if TYPE_CHECKING:
    from prismkd.records.shapes import Gain


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Does the guidance's energy gain survive resize, JPEG and re-encoding, and convince the judge?"""


def survival(arguments: Arguments) -> None:
    """Draw the same images unguided, guided and with the sign flipped, treat them, and print what remains."""
    with held_run(arguments) as run:
        from prismkd.runs.survival import survival

        survival(run)
    print_survival(arguments.folder())


def print_survival(out: Path) -> None:
    """The gains of guidance after each treatment, by each viewer."""
    from prismkd.records.directory import read_json
    from prismkd.records.shapes import SurvivalRecord

    data = read_json(out / "survival.json", SurvivalRecord)
    title = f"Does the gain survive? {data['num_images']} images, guided against unguided, same seeds"
    _print_gains(data["guided"], title)
    if adapted := data.get("adapted"):
        _print_gains(adapted, "The same of the adapter's images, unguided")
    for row in data["ascending"]:
        if row["treatment"] == "none":
            show(f"negative control, by the {row['viewer']}: energy gain {row['gain']:.2f}, "
                  f"top-1 {row['top1']:.3f} (unguided {row['top1_unguided']:.3f})")  # fmt: skip
    show(f"written to {out / 'survival.json'}")


def _print_gains(rows: Sequence[Gain], title: str) -> None:
    lines = []
    for row in rows:
        survives = "" if row["survives"] is None else f"{row['survives']:.0%}"
        lines.append([row["treatment"], row["viewer"], f"{row['gain']:.2f}", survives, f"{row['label_gain']:.2f}",
                      f"{row['top1']:.3f}", f"{row['top1_unguided']:.3f}"])  # fmt: skip
    header = ["treatment", "viewer", "energy gain", "survives", "label gain (nats)", "top-1", "unguided top-1"]
    print_table(title, header, lines, left=2)
