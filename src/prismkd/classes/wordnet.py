"""Words' senses and what lies below them: timm's list of 21,844 WordNet noun synsets with WordNet's hierarchy.

Names and definitions come with timm, read from its files, as ``import timm`` would load torch. Parents, kinds and the
order of a word's senses come with prismkd (``benchmarks/wordnet_parents.py`` made them). Ids are WordNet 3.0's, the
ones that ImageNet's folders have. The list holds what can be pictured: it has no abstract senses, and few names of
people and places.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
import zlib
from collections import deque
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path

from prismkd.errors import UserError

KINDS = ("animal", "person", "plant", "food", "vehicle", "building", "clothing", "instrument", "place", "object")
SYNSETS = Path(__file__).parents[1] / "assets" / "wordnet" / "synsets.tsv.gz"
TIMM_FILES = ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")

# Plural endings and the singular's, as in WordNet's own rules with a few irregular words; the first that gives a word.
PLURALS = (
    ("mice", "mouse"),
    ("geese", "goose"),
    ("teeth", "tooth"),
    ("feet", "foot"),
    ("men", "man"),
    ("children", "child"),
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("oes", "o"),
    ("s", ""),
)


@dataclass(frozen=True, slots=True)
class Synset:
    """One sense: its id (``n`` and eight digits), the words that have it, and what they mean by it."""

    id: str
    lemmas: tuple[str, ...]
    definition: str


@dataclass(frozen=True, slots=True)
class _Net:
    """Everything, by id; ``words`` has each word's ids, the likely senses first."""

    synsets: dict[str, Synset]
    children: dict[str, list[str]]
    kinds: dict[str, str]
    words: dict[str, list[str]]


def find_synset(id: str) -> Synset:
    """The synset of an id such as ``n02012849``.

    Raises:
        UserError: the id is unknown or no id; the error offers those that may be meant.
    """
    net = _load()
    if id in net.synsets:
        return net.synsets[id]
    if re.fullmatch(r"n\d{8}", id):
        count = len(net.synsets)
        raise UserError(f"expected one of ImageNet's {count} synsets, got {id!r}; near it are {_near(id, net)}")
    raise UserError(
        f"expected a synset id, which is n and eight digits (n02012849), got {id[:40]!r}; {_advice(id, net)}"
    )


def senses_of(name: str) -> list[Synset]:
    """The senses of a noun, the likely ones first, or none where the word is unknown.

    First come the senses that WordNet has counted in texts, by frequency: a ``mouse`` is a rodent before it is a
    device. It has counts for one ambiguous word in four, and small ones: a ``peacock`` is a butterfly first. The others
    follow in an order of ours, a guess: by where the word stands among the synset's lemmas (a ``gopher`` is a rodent
    before it is a Minnesotan), then by id, which has animals before artifacts before plants.

    Case doesn't matter, underscores and hyphens are blanks, and a plural that is no word of its own is taken for its
    singular: ``mice`` has the senses of ``mouse``, but ``glasses`` are spectacles.
    """
    net, word = _load(), _normal(name)
    keys = next((net.words[form] for form in (word, *_singulars(word)) if form in net.words), [])
    return [net.synsets[key] for key in keys]


def is_word(text: str) -> bool:
    """Whether a text is a lemma as it stands, case and hyphens aside; a regular plural is none."""
    return _normal(text) in _load().words


def hyponyms(id: str) -> list[Synset]:
    """All that lie below a synset, breadth first, siblings in the order of their ids; each is there once.

    Raises:
        UserError: the id is unknown.
    """
    net, top = _load(), find_synset(id).id
    found, queue = {top: None}, deque([top])
    while queue:
        for child in net.children.get(queue.popleft(), ()):
            if child not in found:
                found[child] = None
                queue.append(child)
    return [net.synsets[key] for key in list(found)[1:]]


def kind(id: str) -> str:
    """Which of ``KINDS`` a synset is, for prompts that fit it (an animal can sleep, a building can't).

    A place is a landscape, a room or a road, but also weather and sports, which are seen as scenes; whatever has no
    other kind is an object.

    Raises:
        UserError: the id is unknown.
    """
    return _load().kinds.get(find_synset(id).id, "object")


@cache
def read_names() -> dict[str, tuple[tuple[str, ...], str]]:
    """Lemmas and definition of every synset, by id in ascending order, from timm's files.

    Raises:
        UserError: timm isn't installed, or is a version without these files.
    """
    lemmas, definitions = (_read_table(name) for name in TIMM_FILES)
    return {key: (tuple(lemmas[key].split(", ")), definitions.get(key, "")) for key in sorted(lemmas)}


def _read_table(name: str) -> dict[str, str]:
    """Ids and what stands beside them in one of timm's files."""
    spec = importlib.util.find_spec("timm")  # finds the folder, and imports nothing
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((p for p in (Path(f, "data", "_info", name) for f in folders) if p.is_file()), None)
    if path is None:
        where = f"the timm in {folders[0]} has none" if folders else "found no timm"
        raise UserError(f"expected timm's file data/_info/{name}, {where}; install timm >= 1.0.20")
    with path.open(encoding="utf-8") as file:
        rows = (line.rstrip("\n").partition("\t") for line in file)
        return {key: text for key, _, text in rows if text}


def _read_rows() -> list[list[str]]:
    """The rows of prismkd's file: id, kind, parents, and its place among the senses of each of its lemmas."""
    try:
        text = gzip.decompress(SYNSETS.read_bytes()).decode()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"expected the embedded file {SYNSETS}, got {error}; reinstall prismkd") from None
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


@cache
def _load() -> _Net:
    """Everything, read once: about 0.2 s and 40 MB."""
    synsets = {key: Synset(key, *rest) for key, rest in read_names().items()}
    rows = [row for row in _read_rows() if row[0] in synsets]
    children: dict[str, list[str]] = {}
    for key, _, parents, _ in rows:
        for parent in filter(None, parents.split(",")):
            children.setdefault(parent, []).append(key)
    kinds = {key: kind for key, kind, _, _ in rows}
    return _Net(synsets, children, kinds, _words(synsets, {key: places for key, _, _, places in rows}))


def _words(synsets: dict[str, Synset], places: dict[str, str]) -> dict[str, list[str]]:
    """Each word's synsets: counted ones by their place, others by where the word stands among their lemmas, then id."""
    words: dict[str, list[tuple[float, int, str]]] = {}
    for key, synset in synsets.items():
        numbers = [float(number or "inf") for number in places.get(key, "").split(",")]
        if len(numbers) != len(synset.lemmas):
            numbers = [inf] * len(synset.lemmas)
        for index, lemma in enumerate(synset.lemmas):
            words.setdefault(_normal(lemma), []).append((numbers[index], index, key))
    return {word: list(dict.fromkeys(key for *_, key in sorted(senses))) for word, senses in words.items()}


def _normal(name: str) -> str:
    """Lower case, with single blanks for underscores, hyphens and runs of blanks."""
    return " ".join(re.split(r"[\s_-]+", name.lower())).strip()


def _singulars(word: str) -> list[str]:
    """What ``word`` may be the plural of; never less than three letters."""
    if word.endswith("ss"):
        return []
    forms = [word.removesuffix(plural) + singular for plural, singular in PLURALS if word.endswith(plural)]
    return [form for form in forms if len(form) > 2]


def _near(id: str, net: _Net) -> str:
    """The four synsets whose ids are nearest, which are often relatives."""
    near = sorted(net.synsets, key=lambda key: (abs(int(key[1:]) - int(id[1:])), key))[:4]
    return _offer([net.synsets[key] for key in sorted(near)])


def _advice(text: str, net: _Net) -> str:
    """What to write for something that is no id: a word, digits alone, or the ``crane.n.01`` of other tools."""
    digits = f"n{re.sub(r'[^0-9]', '', text)}"
    if digits in net.synsets:
        return f"give {_offer([net.synsets[digits]])}"
    senses = senses_of(re.sub(r"\.n\.\d+$", "", text))
    if senses:
        return f"give one of {_offer(senses[:6])}"
    return "take the name of the class's ImageNet folder, or an id that senses_of finds for its name"


def _offer(synsets: list[Synset]) -> str:
    """Ids with what they mean, for an error's one line."""
    return ", ".join(f"{item.id} ({', '.join(item.lemmas[:2])}: {item.definition[:50]})" for item in synsets)
