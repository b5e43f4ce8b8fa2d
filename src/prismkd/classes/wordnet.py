"""The senses of words, and what is a kind of what: timm's list of 21,844 noun synsets with WordNet's hierarchy.

A synset is one sense with all words (lemmas) that have it; its hyponyms are the synsets of its kinds (Fellbaum 1998).
Lemmas and definitions come with timm; its files are read directly, since ``import timm`` loads torch. Parents, kinds
and the order of a word's senses come with prismkd (``benchmarks/wordnet_parents.py`` made them). Ids are WordNet 3.0's,
the ones that ImageNet's folders have. The list holds what can be pictured: it has no abstract senses, and few names of
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

from prismkd.classes.matching import normalize
from prismkd.errors import UserError

KINDS = ("animal", "person", "plant", "food", "vehicle", "building", "clothing", "instrument", "place", "object")
SYNSETS = Path(__file__).parents[1] / "assets" / "wordnet" / "synsets.tsv.gz"
TIMM_FILES = ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")

# A plural's ending and its singular's, in the order in which they are tried: WordNet's own rules of detachment for
# nouns (morphy(7WN)), with the irregular plurals of things that are often pictured. An ending such as "ves" has several
# singulars; the first that is a word counts.
PLURAL_ENDINGS = (
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
    """One sense: its id (``n`` and eight digits), its lemmas (the words that have it) and its definition."""

    id: str
    lemmas: tuple[str, ...]
    definition: str


@dataclass(frozen=True, slots=True)
class _Net:
    """All of WordNet that is known here.

    Attributes:
        synsets: by id.
        children: the ids of a synset's direct hyponyms, by its id.
        kinds: one of ``KINDS`` by id.
        words: the ids of a word's senses, the likely ones first, by the word as ``normalize`` writes it.
    """

    synsets: dict[str, Synset]
    children: dict[str, list[str]]
    kinds: dict[str, str]
    words: dict[str, list[str]]


def find_synset(synset_id: str) -> Synset:
    """The synset of an id such as ``n02012849``.

    Raises:
        UserError: an unknown id, or a text of another form; the error offers synsets that may be meant.
    """
    net = _load()
    if synset_id in net.synsets:
        return net.synsets[synset_id]
    if re.fullmatch(r"n\d{8}", synset_id):
        raise UserError(
            f"expected one of ImageNet's {len(net.synsets)} synsets, got {synset_id!r}; "
            f"near it are {_nearest(synset_id, net)}"
        )
    raise UserError(
        f"expected a synset id, which is n and eight digits (n02012849), got {synset_id[:40]!r}; "
        f"{_advice(synset_id, net)}"
    )


def senses_of(name: str) -> list[Synset]:
    """The senses of a noun, the likely ones first; an empty list where the word is unknown.

    First come the senses that WordNet has counted in texts, by frequency: a ``mouse`` is a rodent before it is a
    device. It has counts for one ambiguous word in four, and small ones: a ``peacock`` is a butterfly first. The others
    follow in an order of ours, a guess: by where the word stands among the synset's lemmas (a ``gopher`` is a rodent
    before it is a Minnesotan), then by id, which has animals before artifacts before plants.

    Case doesn't matter, underscores and hyphens are blanks, and a plural that is no word of its own is taken for its
    singular: ``mice`` has the senses of ``mouse``, but ``glasses`` are spectacles.
    """
    net, word = _load(), normalize(name)
    synset_ids = next((net.words[form] for form in (word, *singulars(word)) if form in net.words), [])
    return [net.synsets[synset_id] for synset_id in synset_ids]


def is_word(text: str) -> bool:
    """Whether a text is a lemma in the form of ``normalize``. A plural is one only if WordNet lists it: ``glasses``."""
    return normalize(text) in _load().words


def hyponyms(synset_id: str) -> list[Synset]:
    """All synsets below one, at any depth: breadth first, siblings in the order of their ids, each once.

    Raises:
        UserError: the id is unknown.
    """
    net, root = _load(), find_synset(synset_id).id
    visited, queue = {root: None}, deque([root])  # a dictionary keeps the order; a synset may have several parents
    while queue:
        for child in net.children.get(queue.popleft(), ()):
            if child not in visited:
                visited[child] = None
                queue.append(child)
    return [net.synsets[below] for below in list(visited)[1:]]


def kind(synset_id: str) -> str:
    """Which of ``KINDS`` a synset is, for prompts that fit it (an animal can sleep, a building can't).

    A place is a landscape, a room or a road, but also weather and sports, which are seen as scenes; whatever has no
    other kind is an object.

    Raises:
        UserError: the id is unknown.
    """
    return _load().kinds.get(find_synset(synset_id).id, "object")


@cache
def read_names() -> dict[str, tuple[tuple[str, ...], str]]:
    """Lemmas and definition of every synset, by id in ascending order, from timm's files.

    Raises:
        UserError: timm isn't installed, or is a version without these files.
    """
    lemmas, definitions = (_read_table(name) for name in TIMM_FILES)
    return {synset_id: (tuple(lemmas[synset_id].split(", ")), definitions.get(synset_id, ""))
            for synset_id in sorted(lemmas)}  # fmt: skip


def _read_table(name: str) -> dict[str, str]:
    """The text of each id in one of timm's files, whose lines are an id, a tab and a text."""
    spec = importlib.util.find_spec("timm")  # finds the folder, and imports nothing
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((p for p in (Path(f, "data", "_info", name) for f in folders) if p.is_file()), None)
    if path is None:
        where = f"the timm in {folders[0]} has none" if folders else "found no timm"
        raise UserError(f"expected timm's file data/_info/{name}, {where}; install timm >= 1.0.20")
    with path.open(encoding="utf-8") as file:
        rows = (line.rstrip("\n").partition("\t") for line in file)
        return {synset_id: text for synset_id, _, text in rows if text}


def _read_rows() -> list[list[str]]:
    """The rows of prismkd's file, each of four texts.

    These are: id; kind; parents' ids, separated by commas; and, also separated by commas, the rank of this sense among
    the senses of each of its lemmas (1 is the most frequent one; empty where WordNet has no counts).
    """
    try:
        text = gzip.decompress(SYNSETS.read_bytes()).decode()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"expected the embedded file {SYNSETS}, got {error}; reinstall prismkd") from None
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


@cache
def _load() -> _Net:
    """The whole net, read once per process: about 0.2 s and 40 MB."""
    synsets = {synset_id: Synset(synset_id, *rest) for synset_id, rest in read_names().items()}
    rows = [row for row in _read_rows() if row[0] in synsets]  # another timm might have dropped some
    children: dict[str, list[str]] = {}
    for synset_id, _, parents, _ in rows:
        for parent in filter(None, parents.split(",")):
            children.setdefault(parent, []).append(synset_id)
    kinds = {synset_id: kind for synset_id, kind, _, _ in rows}
    return _Net(synsets, children, kinds, _words(synsets, {synset_id: ranks for synset_id, _, _, ranks in rows}))


def _words(synsets: dict[str, Synset], ranks: dict[str, str]) -> dict[str, list[str]]:
    """The ids of each word's senses.

    Senses with a rank come first, by rank; the others by where the word stands among their lemmas, then by id.
    """
    words: dict[str, list[tuple[float, int, str]]] = {}
    for synset_id, synset in synsets.items():
        rank_of_lemma = [float(rank or "inf") for rank in ranks.get(synset_id, "").split(",")]
        if len(rank_of_lemma) != len(synset.lemmas):  # a synset without any rank has an empty column
            rank_of_lemma = [inf] * len(synset.lemmas)
        for place, lemma in enumerate(synset.lemmas):
            words.setdefault(normalize(lemma), []).append((rank_of_lemma[place], place, synset_id))
    # Lemmas of one synset may be the same word, such as "wood-frog" and "wood frog": fromkeys drops the repeats
    return {word: list(dict.fromkeys(synset_id for *_, synset_id in sorted(senses))) for word, senses in words.items()}


def singulars(word: str) -> list[str]:
    """What ``word`` may be the plural of, by its ending: candidates, not all of them words."""
    if word.endswith("ss"):  # moss, dress
        return []
    forms = [word.removesuffix(plural) + singular for plural, singular in PLURAL_ENDINGS if word.endswith(plural)]
    return [form for form in forms if len(form) > 2]  # "as" is not two times "a"


def _nearest(synset_id: str, net: _Net) -> str:
    """The four synsets whose ids are numerically nearest. WordNet numbers relatives together, so one may be meant."""
    near = sorted(net.synsets, key=lambda known: (abs(int(known[1:]) - int(synset_id[1:])), known))[:4]
    return _listed([net.synsets[known] for known in sorted(near)])


def _advice(text: str, net: _Net) -> str:
    """What to write instead of a text that isn't an id: a word, digits alone, or the ``crane.n.01`` of NLTK."""
    digits = f"n{re.sub(r'[^0-9]', '', text)}"
    if digits in net.synsets:
        return f"give {_listed([net.synsets[digits]])}"
    senses = senses_of(re.sub(r"\.n\.\d+$", "", text))
    if senses:
        return f"give one of {_listed(senses[:6])}"
    return "take the name of the class's ImageNet folder, or an id that senses_of finds for its name"


def _listed(synsets: list[Synset]) -> str:
    """Ids with what they mean, for an error's one line."""
    return ", ".join(f"{item.id} ({', '.join(item.lemmas[:2])}: {item.definition[:50]})" for item in synsets)
