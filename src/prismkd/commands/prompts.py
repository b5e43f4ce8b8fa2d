"""``prismkd prompts``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prismkd.commands.opening import do_stage
from prismkd.commands.run_arguments import RunArguments
from prismkd.commands.tables import print_table, show
from prismkd.config.ranges import WholeNumber
from prismkd.errors import UserError

if TYPE_CHECKING:
    from prismkd.commands.preview import Preview

NUM_CLASSES_SHOWN = 12
NUM_PLANS_SHOWN = 4


@dataclass(frozen=True)
class Arguments(RunArguments):
    """Class names to a prompt plan; --dry-run shows it and what it costs, and draws nothing."""

    dry_run: bool = False
    """Show the plan, without a model and without writing anything."""
    num_images: Annotated[int | None, WholeNumber(1)] = None
    """With --dry-run: images of one method and seed; default: as synthesis.images_per_class says."""
    json: bool = False
    """With --dry-run: print JSON."""


def prompts(arguments: Arguments) -> None:
    """Write each method's plan, or show what it would be; showing imports no torch."""
    if not arguments.dry_run:
        if arguments.num_images is not None or arguments.json:
            raise UserError("expected --dry-run beside --num-images and --json, got none; add it")
        do_stage(arguments, "prompts")
        print_written(arguments.folder())
        return
    from prismkd.commands.preview import preview

    found = preview(arguments.settings, arguments.num_images or 0, arguments.folder() if arguments.out else None)
    if arguments.json:
        print(json.dumps(found.to_dict(len(found.senses)), indent=1))
    else:
        print_preview(found)


def print_written(out: Path) -> None:
    """What the run has decided, and what comes next."""
    decided = [name for name in ("senses.json", "contents.json") if (out / name).is_file()]
    plans = sorted(str(path.relative_to(out)) for path in out.glob("seed-*/*/prompts.json"))
    more = f" and {len(plans) - NUM_PLANS_SHOWN} more" if len(plans) > NUM_PLANS_SHOWN else ""
    show(f"written in {out}: {', '.join([*decided, *plans[:NUM_PLANS_SHOWN]])}{more}")
    show(f"next: `prismkd synthesize --out {out}` draws the images; `prismkd run --out {out}` does all that is left")


def _in_words(balance: tuple[int, int]) -> str:
    low, high = balance
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def print_preview(found: Preview) -> None:
    """A plan before it is drawn: examples, counts, shares and cost."""
    count, classes = found.cost.images, found.plan.subjects
    lines = [
        [subject.class_name if not turn else "", prompt.text, prompt.style]
        for label, subject in enumerate(classes[:NUM_CLASSES_SHOWN])
        for turn, prompt in enumerate(found.examples(label))
    ]
    more = f" of {NUM_CLASSES_SHOWN} of {len(classes)} classes" if len(classes) > NUM_CLASSES_SHOWN else ""
    print_table(f"First prompts{more}", ["class", "prompt", "style"], lines, left=3)
    shares = found.style_counts()
    rows = [[domain, f"{number:,}", f"{number / count:.1%}"] for domain, number in shares.items()]
    print_table("Styles", ["domain", "images", "share"], rows, left=1)
    cost = found.cost
    rows = [["language model requests (class names only)", f"{cost.requests:,}"],
            ["probe images for senses", f"{cost.sense_probes:,}"],
            ["probe images for contents, at most", f"{cost.content_probes:,}"],
            ["images of a plan", f"{cost.images:,}"],
            ["plans (methods times seeds)", f"{cost.plans:,}"],
            ["images in all", f"{cost.total:,}"]]  # fmt: skip
    print_table("Cost", ["what", "number"], rows, left=1)
    first = min(1000, count)
    show(f"{count:,} images of {len(classes)} classes: {_in_words(found.balance(count))} each "
          f"({_in_words(found.balance(first))} among the first {first:,}); "
          f"{found.microseconds:.0f} microseconds per prompt at any place")  # fmt: skip
    if cost.pilot:
        show(f"that is the even plan; after about {cost.pilot:,} images what is there decides on classes and styles")
    if found.too_long:
        show(f"warning: {found.too_long}")
    if found.hours is not None:
        show(f"about {found.hours:.1f} h at {found.images_per_second:.3g} images per second, as measured in this run")
    if not found.judged:
        show("senses and contents are not judged yet: `prismkd prompts --out DIR` lets the teacher judge them")
    show("nothing is written; next: `prismkd plan --dry-run` measures what all stages take")
