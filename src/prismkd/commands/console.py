"""What the commands print on stdout: tables of a run's JSON files. rich is imported when one is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prismkd.commands.doctor import Check
    from prismkd.commands.estimating import Estimate
    from prismkd.commands.preview import Preview
    from prismkd.delivery.hub import Upload
    from prismkd.delivery.predict import Prediction
    from prismkd.records.comparison import Comparison
    from prismkd.records.status import Status
    from prismkd.shards import Finding

NUM_CLASSES_SHOWN = 12
NUM_FILES_SHOWN = 20


def print_students(out: Path) -> None:
    """Students' top-1 per domain, the mean over seeds."""
    rows = [row for row in _read(out / "metrics.json")["results"] if row["metric"] == "top1"]
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for domain in domains:
            values = [r["value"] for r in rows if r["method"] == method and r["domain"] == domain]
            cells.append(f"{sum(values) / len(values):.3f}")
        lines.append([method, *cells])
    _print("Top-1 accuracy of the students", ["method", *domains], lines, left=1)


def print_checks(checks: list[Check]) -> None:
    """What was found of a teacher."""
    _print("The teacher", ["check", "", "found"], [[check.name, check.status, check.text] for check in checks], 3)


def print_survival(out: Path) -> None:
    """The gains of guidance after each treatment, by each viewer."""
    data = _read(out / "survival.json")
    lines = []
    for row in data["guided"]:
        survives = "" if row["survives"] is None else f"{row['survives']:.0%}"
        lines.append([row["treatment"], row["viewer"], f"{row['gain']:.2f}", survives, f"{row['label_gain']:.2f}",
                      f"{row['top1']:.3f}", f"{row['top1_unguided']:.3f}"])  # fmt: skip
    header = ["treatment", "viewer", "energy gain", "survives", "label gain (nats)", "top-1", "unguided top-1"]
    _print(f"Does the gain survive? {data['num_images']} images, guided against unguided, same seeds", header, lines, 2)
    for row in data["ascending"]:
        if row["treatment"] == "none":
            print(f"negative control, by the {row['viewer']}: energy gain {row['gain']:.2f}, "
                  f"top-1 {row['top1']:.3f} (unguided {row['top1_unguided']:.3f})")  # fmt: skip


def print_senses(out: Path) -> None:
    """Every wording of every class, the chosen ones marked, with what the teacher says of their probe images."""
    data = _read(out / "senses.json")
    lines = []
    for sense in data["senses"]:
        for place, wording in enumerate(sense["wordings"]):
            score, chosen = wording["score"], place == sense["chosen"]
            figures = ["", "", ""]
            if score:
                figures = [f"{score['log_probability']:.2f} ± {score['error']:.2f}", f"{score['energy']:.1f}",
                           f"{score['agreement']:.0%}"]  # fmt: skip
            remark = "lost" if sense["lost"] else "tie" if sense["tie"] else ""
            lines.append([sense["class_name"] if not place else "", "*" if chosen else "", wording["text"],
                          wording["source"], *figures, remark if chosen else ""])  # fmt: skip
    header = ["class", "", "wording", "from", "log p(class)", "energy", "agrees", ""]
    _print(f"What the teacher means ({data['images']} probe images; * is used)", header, lines, left=4)
    print(f"written to {out / 'senses.json'}" + (f"; images in {out / 'probes' / 'senses'}" if data["images"] else ""))


def print_preview(found: Preview) -> None:
    """A plan before it is drawn: examples, counts, shares and cost."""
    count, classes = found.cost.images, found.plan.subjects
    lines = [
        [subject.class_name if not turn else "", prompt.text, prompt.style]
        for label, subject in enumerate(classes[:NUM_CLASSES_SHOWN])
        for turn, prompt in enumerate(found.examples(label))
    ]
    more = f" of {NUM_CLASSES_SHOWN} of {len(classes)} classes" if len(classes) > NUM_CLASSES_SHOWN else ""
    _print(f"First prompts{more}", ["class", "prompt", "style"], lines, left=3)
    shares = found.style_counts()
    rows = [[domain, f"{number:,}", f"{number / count:.1%}"] for domain, number in shares.items()]
    _print("Styles", ["domain", "images", "share"], rows, left=1)
    cost = found.cost
    rows = [["language model requests (class names only)", f"{cost.requests:,}"],
            ["probe images for senses", f"{cost.sense_probes:,}"],
            ["probe images for contents, at most", f"{cost.content_probes:,}"],
            ["images of a plan", f"{cost.images:,}"],
            ["plans (methods times seeds)", f"{cost.plans:,}"],
            ["images in all", f"{cost.total:,}"]]  # fmt: skip
    _print("Cost", ["what", "number"], rows, left=1)
    low, high = found.balance(count)
    first = found.balance(min(1000, count))
    print(f"{count:,} images of {len(classes)} classes: {low:,} to {high:,} each "
          f"({first[0]} to {first[1]} among the first {min(1000, count):,}); "
          f"{found.microseconds:.0f} microseconds per prompt at any place")  # fmt: skip
    if cost.pilot:
        print(f"that is the even plan; after about {cost.pilot:,} images coverage decides on classes and styles")
    if found.hours is not None:
        print(f"about {found.hours:.1f} h at {found.images_per_second:.3g} images per second, as measured in this run")
    if not found.judged:
        print("senses and contents are not judged yet: `prismkd prompts --out DIR` lets the teacher judge them")


def print_status(found: Status) -> None:
    """How far each data set and student is."""
    lines = []
    for job in found.jobs:
        drawn = "" if job.method == "real" else f"{job.shards:,}/{_known(job.shards_in_all)}"
        images = "" if job.method == "real" else f"{job.images:,}/{_known(job.images_in_all)}"
        speed = f"{job.images_per_second:.3g}" if job.images_per_second else ""
        trouble = [f"{job.damaged} damaged"] * bool(job.damaged) + [f"{job.failed} given up"] * bool(job.failed)
        student = "evaluated" if job.evaluated else "trained" if job.student else ""
        lines.append(
            [job.method, str(job.seed), ", ".join(trouble), student, drawn, images, f"{job.gigabytes:.3f}", speed]
        )
    header = ["method", "seed", "trouble", "student", "shards", "images", "GB", "images/s"]
    _print("Data sets", header, lines, left=4)
    left = found.seconds_left
    if found.finished:
        print("all images are drawn")
    elif left is not None:
        print(f"about {left / 3600:.2f} h of one worker are left")
    print("at work: " + ("; ".join(found.workers) or "nobody"))


def _known(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def print_findings(findings: dict[str, list[Finding]], counts: dict[str, int]) -> None:
    """What is wrong with each data set."""
    for url, found in findings.items():
        kinds = {kind: sum(row.kind == kind for row in found) for kind in dict.fromkeys(row.kind for row in found)}
        verdict = ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "whole"
        print(f"{url}: {counts[url]:,} images read and right; {verdict}")
        for row in found[:NUM_CLASSES_SHOWN]:
            print(f"  {row.kind}: {row.message}")
        if len(found) > NUM_CLASSES_SHOWN:
            print(f"  and {len(found) - NUM_CLASSES_SHOWN} more")


def print_estimate(found: Estimate) -> None:
    """Hours, gigabytes and cost before anything is drawn."""
    lines = [[row.method, f"{row.images:,}", f"{row.seconds_per_image:.4g}", f"{row.hours:.3g}", f"{row.gigabytes:.3g}"]
             for row in found.methods]  # fmt: skip
    _print("What the images will cost", ["method", "images", "seconds per image", "device hours", "GB"], lines, left=1)
    total = sum(row.gigabytes for row in found.methods)
    text = (
        f"{found.device_hours:.3g} device hours, {found.device_hours / found.num_devices:.3g} h on {found.num_devices}"
    )
    cost = f", cost {found.device_hours * found.price:,.2f}" if found.price else ""
    plural = "s" * (found.num_devices > 1)
    print(f"{text} device{plural}, {total:.3g} GB{cost}; measured on {found.num_measured} images each")


def print_comparison(found: Comparison) -> None:
    """B against A on every domain, and what is to be said."""
    lines = []
    for row in found.rows:
        low, high = (f"{100 * bound:+.1f}" for bound in row.interval)
        lines.append([row.domain, f"{row.num_images:,}", f"{row.top1_a:.3f}", f"{row.top1_b:.3f}",
                      f"{100 * row.difference:+.1f}", f"{low} to {high}", f"{row.p_holm:.2g}"])  # fmt: skip
    header = ["domain", "images", f"A: {found.a.name}", f"B: {found.b.name}", "B - A", "95 % interval", "p"]
    seeds = ", ".join(map(str, found.seeds))
    _print(f"Top-1 on the same images, differences in points, seeds {seeds}", header, lines, left=1)
    print("p: exact sign test over images, Holm-corrected over domains; interval: bootstrap over images and seeds")
    print(found.sentence())


def print_predictions(found: list[Prediction], names: list[str]) -> None:
    """What a student sees on each file."""
    lines = []
    for row in found:
        cells = [f"{names[label]} {probability:.1%}" for label, probability in row.top] or [row.problem]
        lines.append([printable(text) for text in (str(row.file), cells[0], ", ".join(cells[1:]))])
    failed = sum(bool(row.problem) for row in found)
    trouble = f", {failed} unreadable" if failed else ""
    _print(f"{len(found):,} file{'s' * (len(found) != 1)}{trouble}", ["file", "class", "then"], lines, left=3)


def print_upload(plan: Upload) -> None:
    """What would be sent where."""
    lines = [[printable(name), f"{size:,}"] for name, size in list(plan.files.items())[:NUM_FILES_SHOWN]]
    if len(plan.files) > NUM_FILES_SHOWN:
        lines.append([f"and {len(plan.files) - NUM_FILES_SHOWN:,} more", ""])
    visibility = "private" if plan.private else "public"
    _print(f"{plan.folder}", ["file", "bytes"], lines, left=1)
    print(f"{len(plan.files):,} files, {sum(plan.files.values()):,} bytes, to the {visibility} {plan.kind} repository "
          f"{plan.repository} on the Hugging Face hub")  # fmt: skip


def printable(text: str) -> str:
    """A name from outside, without what would control a terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)


def _print(title: str, header: list[str], lines: list[list[str]], left: int) -> None:
    """A table whose first ``left`` columns are text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title)
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line))
    Console(emoji=False).print(table)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())
