"""``prismkd senses``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prismkd.commands.endings import print_next
from prismkd.commands.opening import held_run
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table, show


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Which wording of each class the teacher recognizes, as a table."""


def senses(arguments: Arguments) -> None:
    """Let the teacher judge the wordings of the classes, once per run, and print what it found."""
    with held_run(arguments) as run:
        from prismkd.runs.planning import choose_senses

        choose_senses(run)
    print_senses(arguments.folder())
    print_next(str(arguments.folder()), "senses")


def print_senses(out: Path) -> None:
    """Every wording of every class, the chosen ones marked, with what the teacher says of their probe images."""
    from prismkd.prompts.senses import SensesRecord
    from prismkd.records.directory import read_json

    data = read_json(out / "senses.json", SensesRecord)
    lines = []
    for sense in data["senses"]:
        for place, wording in enumerate(sense.get("wordings", [])):
            score, chosen = wording.get("score"), place == sense.get("chosen", 0)
            figures = ["", "", ""]
            if score:
                figures = [f"{score['log_probability']:.2f} ± {score['error']:.2f}", f"{score['energy']:.1f}",
                           f"{score['agreement']:.0%}"]  # fmt: skip
            remark = "lost" if sense.get("lost") else "tie" if sense.get("tie") else ""
            lines.append([sense["class_name"] if not place else "", "*" if chosen else "", wording["text"],
                          wording["source"], *figures, remark if chosen else ""])  # fmt: skip
    num_images = data.get("images", 0)
    header = ["class", "", "wording", "from", "log p(class)", "energy", "agrees", ""]
    print_table(f"What the teacher means ({num_images} probe images; * is used)", header, lines, left=4)
    show(f"written to {out / 'senses.json'}" + (f"; images in {out / 'probes' / 'senses'}" if num_images else ""))
