"""What was drawn, in words: the teacher's choice of senses with its probe images, and every method's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from prismkd import shards
from prismkd.config.methods import REFERENCES
from prismkd.errors import UserError
from prismkd.prompts.dpe import ContentsRecord, DroppedContent
from prismkd.prompts.senses import SensesRecord, WordingRecord
from prismkd.records.directory import remedy_of
from prismkd.records.results import RunResults
from prismkd.records.shapes import Example as ExampleRecord
from prismkd.records.shapes import ShownPlan, ShownPrompts
from prismkd.report import formats, names, thumbnails
from prismkd.report.stored_images import StoredDataset, StoredImages
from prismkd.report.thumbnails import Thumbnail

MAX_CLASSES, PROBES_SHOWN = 30, 6
MAX_EXAMPLES, MAX_DROPPED = 72, 100
REMARKS = ("the teacher never sees it", "a tie", "")  # those to look at first
MAX_SIDE = 96  # pixels: there are many of these pictures


@dataclass(frozen=True)
class WordingRow:
    """A wording, what the teacher says of it, and some of its probe images."""

    text: str
    source: str
    chosen: bool
    score: str
    hint: str
    probes: list[Thumbnail]


@dataclass(frozen=True)
class SenseCard:
    """The wordings of one class; ``remark`` is empty, or why it should be looked at."""

    name: str
    remark: str
    wordings: list[WordingRow]


@dataclass(frozen=True)
class Example:
    """A prompt beside its image, where that is drawn."""

    index: int
    name: str
    prompt: str
    style: str
    image: Thumbnail | None


@dataclass(frozen=True)
class PromptSet:
    """The parts of a plan that are shown, and the methods that they serve."""

    methods: list[str]
    styles: list[dict[str, Any]]
    contents: list[str]
    examples: list[Example]


def sense_cards(run: RunResults) -> list[SenseCard]:
    """Every class's wordings, those to look at first; empty where nothing was judged."""
    document = run.document(run.folder / "senses.json", SensesRecord) or {"senses": []}
    senses = document["senses"]
    if not all("wordings" in sense for sense in senses):
        return []  # of a version that did not keep the wordings
    probes = _probes(run, sum(len(sense["wordings"]) for sense in senses), document.get("images", 0))
    cards, number = [], 0
    for sense in senses:
        rows = []
        for place, wording in enumerate(sense["wordings"]):
            rows.append(_wording_row(wording, place == sense.get("chosen", 0), probes.get(number, [])))
            number += 1
        remark = REMARKS[0 if sense.get("lost") else 1 if sense.get("tie") else 2]
        if len(rows) > 1 or sense.get("lost"):
            cards.append(SenseCard(sense["class_name"], remark, rows))
    return sorted(cards, key=lambda card: REMARKS.index(card.remark))[:MAX_CLASSES] if probes else []


def _wording_row(wording: WordingRecord, chosen: bool, probes: list[Thumbnail]) -> WordingRow:
    score = wording.get("score")
    if not score:
        return WordingRow(wording["text"], wording["source"], chosen, "", "", probes)
    surely = formats.number(score["log_probability"], 2)
    hint = (f"log p(class) {surely} \u00b1 {score['error']:.2f}, energy {formats.number(score['energy'], 1)}, "
            f"{score['agreement']:.0%} of the probes agree")  # fmt: skip
    return WordingRow(wording["text"], wording["source"], chosen, surely, hint, probes)


def _probes(run: RunResults, num_wordings: int, num_images: int) -> dict[int, list[Thumbnail]]:
    """The first probe images of each wording, by the wording's number: probes are stored wording by wording."""
    folder = run.folder / "probes" / "senses"
    if not num_wordings or not num_images or not folder.is_dir():
        return {}
    per_wording = max(1, num_images // num_wordings)
    probes: dict[int, list[Thumbnail]] = {}
    for sample in shards.read_samples(folder):
        number, probe = divmod(sample.index, per_wording)
        if probe < PROBES_SHOWN:
            probes.setdefault(number, []).append(thumbnails.thumbnail(run, sample, MAX_SIDE))
    return probes


def prompt_sets(run: RunResults, stored: StoredImages) -> list[PromptSet]:
    """What the prompts are made of, PRISM's first; methods with the same styles and contents share an entry."""
    sets: list[PromptSet] = []
    for method in sorted(run.folders, key=lambda method: method != "prism"):
        document = next(iter(run.documents(method, "prompts.json", ShownPrompts)), None)
        if document is None or method in REFERENCES:
            continue
        plan = document["plan"]
        contents = list(dict.fromkeys(c for subject in plan["subjects"] for c in subject["contents"]))
        styles = _shares(plan, run.folders[method][0] / "prompts.json")
        same = next((known for known in sets if (known.styles, known.contents) == (styles, contents)), None)
        if same:
            same.methods.append(names.method_label(method))
        else:
            dataset = stored.datasets.get(method)
            if dataset and dataset.folder != run.folders[method][0]:
                dataset = None  # images of another seed are of other noise, and maybe of other prompts
            examples = _examples(run, dataset, document["examples"])
            sets.append(PromptSet([names.method_label(method)], styles, contents, examples))
    return sets


def _shares(plan: ShownPlan, path: Path) -> list[dict[str, Any]]:
    """Styles with their share of the images, the mean over classes; ``path`` is where the plan stands, for errors."""
    weights, styles = [subject["weights"] for subject in plan["subjects"]], plan["styles"]
    if any(len(of_class) != len(styles) for of_class in weights):
        raise UserError(f"expected a weight of each of {len(styles)} styles in {path}, got others; {remedy_of(path)}")
    return [
        {**style, "share": sum(of_class[place] for of_class in weights) / max(len(weights), 1)}
        for place, style in enumerate(styles)
    ]


def _examples(run: RunResults, dataset: StoredDataset | None, rows: Sequence[ExampleRecord]) -> list[Example]:
    shown = rows[:MAX_EXAMPLES]
    pictures: dict[tuple[int, int], Thumbnail] = {}
    if dataset is not None:
        pictures = thumbnails.thumbnails_of(run, dataset.storage, {row["index"] for row in shown}, MAX_SIDE)
    return [
        Example(row["index"], row["class_name"], row["text"], row["style"], pictures.get((row["index"], row["label"])))
        for row in shown
    ]


def dropped_contents(run: RunResults) -> tuple[list[DroppedContent], int]:
    """The first contents that lost their class, with the reasons, and the number of all."""
    rows = (run.document(run.folder / "contents.json", ContentsRecord) or {"contents": []}).get("dropped", [])
    return list(islice(rows, MAX_DROPPED)), len(rows)
