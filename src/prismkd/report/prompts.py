"""What was drawn, in words: the teacher's choice of senses with its probe images, and every method's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from prismkd.config.methods import REFERENCES
from prismkd.errors import UserError
from prismkd.prompts.dpe import ContentsRecord, DroppedContent
from prismkd.prompts.senses import SenseRecord, SensesRecord, WordingRecord
from prismkd.records.directory import remedy_of
from prismkd.records.results import RunResults
from prismkd.records.shapes import Example as ExampleRecord
from prismkd.records.shapes import ShownPlan, ShownPrompts
from prismkd.report import formats, names, thumbnails
from prismkd.report.stored_images import StoredDataset, StoredImages, read_few
from prismkd.report.thumbnails import Thumbnail
from prismkd.shards import Storage

MAX_CLASSES, PROBES_SHOWN = 30, 6
MAX_EXAMPLES, MAX_DROPPED = 100, 100
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
class StyleDomain:
    """A way of drawing: the phrases of its styles, and their part of the images."""

    name: str
    phrases: list[str]
    share: float


@dataclass(frozen=True)
class PromptSet:
    """The parts of a plan that are shown, and the methods that they serve."""

    methods: list[str]
    styles: list[StyleDomain]
    contents: list[str]
    examples: list[Example]


def sense_cards(run: RunResults) -> tuple[list[SenseCard], int]:
    """The wordings of some classes, those to look at first, and of how many; none where nothing was judged."""
    document = run.document(run.folder / "senses.json", SensesRecord) or {"senses": []}
    senses = document["senses"]
    if not all("wordings" in sense for sense in senses):
        return [], 0  # of a version that did not keep the wordings
    *starts, num_wordings = accumulate((len(sense["wordings"]) for sense in senses), initial=0)
    judged = [(start, sense) for start, sense in zip(starts, senses, strict=True)
              if len(sense["wordings"]) > 1 or sense.get("lost")]  # fmt: skip
    shown = sorted(judged, key=lambda pair: REMARKS.index(_remark(pair[1])))[:MAX_CLASSES]
    numbers = [start + place for start, sense in shown for place in range(len(sense["wordings"]))]
    probes = _probes(run, numbers, document.get("images", 0) // max(num_wordings, 1))
    cards = [
        SenseCard(
            sense["class_name"],
            _remark(sense),
            [
                _wording_row(wording, place == sense.get("chosen", 0), probes.get(start + place, []))
                for place, wording in enumerate(sense["wordings"])
            ],
        )
        for start, sense in shown
    ]
    return (cards, len(judged)) if probes else ([], 0)


def _remark(sense: SenseRecord) -> str:
    return REMARKS[0 if sense.get("lost") else 1 if sense.get("tie") else 2]


def _wording_row(wording: WordingRecord, chosen: bool, probes: list[Thumbnail]) -> WordingRow:
    score = wording.get("score")
    if not score:
        return WordingRow(wording["text"], wording["source"], chosen, "", "", probes)
    surely = formats.number(score["log_probability"], 2)
    hint = (f"log p(class) {surely} \u00b1 {score['error']:.2f}, energy {formats.number(score['energy'], 1)}, "
            f"{score['agreement']:.0%} of the probes agree")  # fmt: skip
    return WordingRow(wording["text"], wording["source"], chosen, surely, hint, probes)


def _probes(run: RunResults, numbers: Sequence[int], per_wording: int) -> dict[int, list[Thumbnail]]:
    """The first probe images of some wordings, by the wordings' numbers: probes are stored wording by wording."""
    folder = run.folder / "probes" / "senses"
    if not per_wording or not folder.is_dir():
        return {}
    wanted = {number * per_wording + probe for number in numbers for probe in range(min(PROBES_SHOWN, per_wording))}
    probes: dict[int, list[Thumbnail]] = {}
    for sample in read_few(Storage(folder), wanted):
        probes.setdefault(sample.index // per_wording, []).append(thumbnails.thumbnail(run, sample, MAX_SIDE))
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
        styles = _style_domains(plan, run.folders[method][0] / "prompts.json")
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


def _style_domains(plan: ShownPlan, path: Path) -> list[StyleDomain]:
    """Styles by domain, with the mean over classes of their share; ``path`` is where the plan stands, for errors."""
    weights, styles = [subject["weights"] for subject in plan["subjects"]], plan["styles"]
    if any(len(of_class) != len(styles) for of_class in weights):
        raise UserError(f"expected a weight of each of {len(styles)} styles in {path}, got others; {remedy_of(path)}")
    places: dict[str, list[int]] = {}
    for place, style in enumerate(styles):
        places.setdefault(style.get("domain", style["name"]), []).append(place)
    return [
        StyleDomain(
            domain,
            [styles[place]["phrase"] for place in of_domain],
            sum(of_class[place] for of_class in weights for place in of_domain) / max(len(weights), 1),
        )
        for domain, of_domain in places.items()
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
