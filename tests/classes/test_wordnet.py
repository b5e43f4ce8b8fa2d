"""Word senses: facts about words and things, and the shape of the hierarchy."""

import importlib.util
import subprocess
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from benchmarks.wordnet_parents import (
    Noun,
    kind_of,
    listed_parents,
    read_counted_senses,
    read_nouns,
    sense_numbers,
)
from prismkd.classes import wordnet
from prismkd.classes.wordnet import KINDS, SYNSETS, Synset, find_synset, hyponyms, kind, senses_of
from prismkd.errors import UserError

BIRD, MACHINE = "n02012849", "n03126707"
DOG, POODLE, TOY_POODLE, CAT = "n02084071", "n02113335", "n02113624", "n02121620"


def test_both_cranes_are_there() -> None:
    assert {item.id for item in senses_of("crane")} == {BIRD, MACHINE}
    assert find_synset(BIRD).definition.startswith("large long-necked wading bird")
    assert (kind(BIRD), kind(MACHINE)) == ("animal", "object")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Crane", "crane"),
        ("golden_retriever", "golden retriever"),
        (" t  shirt ", "T-shirt"),
        ("mice", "mouse"),
        ("wolves", "wolf"),
        ("butterflies", "butterfly"),
        ("churches", "church"),
        ("foxes", "fox"),
        ("pianos", "piano"),
    ],
)
def test_spelling_and_plurals_do_not_matter(written: str, meant: str) -> None:
    assert senses_of(written) == senses_of(meant) != []


@pytest.mark.parametrize(
    ("word", "lemma"), [("glasses", "spectacles"), ("shorts", "short pants"), ("trunks", "shorts")]
)
def test_a_plural_that_is_a_word_keeps_its_own_sense(word: str, lemma: str) -> None:
    assert any(lemma in item.lemmas for item in senses_of(word))
    assert all(word in item.lemmas for item in senses_of(word))


@pytest.mark.parametrize("word", ["", "-", "zzyzx", "s", "as", "glass case of emotion"])
def test_unknown_words_have_no_sense(word: str) -> None:
    assert senses_of(word) == []


@pytest.mark.parametrize(
    ("word", "first", "second"),
    [
        ("mouse", "rodents", "electronic device"),
        ("bat", "nocturnal", "club"),
        ("chair", "a seat for one person", "electrocution"),
        ("dog", "genus Canis", "supports for logs"),
    ],
)
def test_the_common_sense_comes_first(word: str, first: str, second: str) -> None:
    definitions = [item.definition for item in senses_of(word)]
    assert first in definitions[0]
    assert any(second in text for text in definitions[1:])


def test_an_uncounted_sense_comes_after_counted_ones_and_by_the_place_of_the_word() -> None:
    """By id alone the fruit would come before the plant, and the tortoise before the rodents."""
    assert [kind(item.id) for item in senses_of("banana")] == ["plant", "food"]  # counted in this order
    assert [item.lemmas[0] for item in senses_of("gopher")][-1] == "gopher tortoise"
    places = [[lemma.lower() for lemma in item.lemmas].index("gopher") for item in senses_of("gopher")]
    assert places == sorted(places)
    assert [item.id for item in senses_of("crane")] == [BIRD, MACHINE]  # neither is counted: by id


def test_what_is_below_dog() -> None:
    below = [item.id for item in hyponyms(DOG)]
    assert {POODLE, TOY_POODLE} < set(below)
    assert CAT not in below
    assert DOG not in {item.id for item in hyponyms(POODLE)}
    assert len(below) == len(set(below))
    assert 118 <= len(below) < 250  # ImageNet-1k alone has 118 breeds


def test_hyponyms_come_breadth_first_then_by_id() -> None:
    names = [item.lemmas[0] for item in hyponyms(senses_of("piano")[0].id)]
    assert names == ["grand piano", "mechanical piano", "upright", "baby grand", "concert grand", "spinet"]


def test_a_leaf_has_nothing_below() -> None:
    assert hyponyms(TOY_POODLE) == []


def test_pianos_are_instruments_and_some_are_grand() -> None:
    piano = senses_of("piano")[0]
    assert "grand piano" in {lemma for item in hyponyms(piano.id) for lemma in item.lemmas}
    assert {kind(item.id) for item in hyponyms(piano.id)} == {"instrument"}


@pytest.fixture(scope="module")
def below() -> dict[str, set[str]]:
    """The synsets below each."""
    return {key: {item.id for item in hyponyms(key)} for key in wordnet.read_names()}


def test_a_kind_of_a_kind_is_a_kind_and_nothing_is_a_kind_of_its_own_kinds(below: dict[str, set[str]]) -> None:
    for key, kinds in below.items():
        for other in kinds:
            assert below[other] < kinds and key not in below[other]


def test_almost_everything_is_a_kind_of_something(below: dict[str, set[str]]) -> None:
    alone = below.keys() - set().union(*below.values())
    assert len(alone) < 0.03 * len(below)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *[(word, "animal") for word in ("poodle", "goldfish", "tarantula", "starfish", "gryphon")],
        *[(word, "person") for word in ("scuba diver", "bridegroom", "nurse")],
        *[(word, "plant") for word in ("rose", "oak", "kelp", "toadstool", "acorn")],
        *[(word, "food") for word in ("pizza", "guacamole", "espresso", "bagel")],
        *[(word, "vehicle") for word in ("bus", "bicycle", "submarine", "hot-air balloon", "bullet train", "sled")],
        *[(word, "building") for word in ("church", "lighthouse", "igloo", "suspension bridge", "bakery", "tent")],
        *[(word, "clothing") for word in ("kimono", "sandal", "cowboy hat", "cuirass", "mitten")],
        *[(word, "instrument") for word in ("violin", "drum", "harmonica")],
        *[(word, "place") for word in ("volcano", "seashore", "kitchen", "street", "golf", "cemetery")],
        *[(word, "object") for word in ("teapot", "laptop", "chair", "door", "bookcase", "dollhouse", "necklace")],
    ],
)
def test_kinds(word: str, expected: str) -> None:
    assert kind(senses_of(word)[0].id) == expected


def test_every_synset_has_a_kind_and_every_kind_many_synsets() -> None:
    counts = Counter(kind(key) for key in wordnet.read_names())
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 100


def test_imagenet_has_its_398_animals_first() -> None:
    spec = importlib.util.find_spec("timm")
    assert spec is not None and spec.submodule_search_locations
    ids = Path(spec.submodule_search_locations[0], "data/_info/imagenet_synsets.txt").read_text().split()
    kinds = [kind(key) for key in ids]
    assert kinds[:398] == ["animal"] * 398
    assert "animal" not in kinds[398:]


def test_prismkd_and_timm_have_the_same_synsets() -> None:
    rows, names = wordnet._read_rows(), wordnet.read_names()
    assert [row[0] for row in rows] == list(names)
    assert len(names) == 21_844
    assert all(len(places.split(",")) == len(names[key][0]) for key, _, _, places in rows if places)
    assert names[BIRD] == (("crane",), find_synset(BIRD).definition)


@pytest.mark.parametrize("use", [find_synset, hyponyms, kind])
def test_an_unknown_id_offers_its_neighbors(use: object) -> None:
    assert callable(use)
    with pytest.raises(
        UserError, match=r"expected one of ImageNet's 21844 .*got 'n02012850'.*n02012849 \(crane: large"
    ):
        use("n02012850")


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("n123", "take the name of the class's ImageNet folder"),
        ("", "take the name of the class's ImageNet folder"),
        ("02012849", f"give {BIRD}"),
        ("02012849-n", f"give {BIRD}"),
        ("N02012849", f"give {BIRD}"),
        ("crane", f"give one of {BIRD} .*, {MACHINE} "),
        ("crane.n.05", f"give one of {BIRD} .*, {MACHINE} "),
        ("Cranes", f"give one of {BIRD} .*, {MACHINE} "),
    ],
)
def test_what_is_no_id_is_explained(written: str, advice: str) -> None:
    with pytest.raises(
        UserError, match=rf"expected a synset id, which is n and eight digits .*got '{written}'; {advice}"
    ):
        find_synset(written)


def test_another_timm_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("timm", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=r"data/_info/imagenet_synset_to_lemma.txt.*has none; install timm >= 1.0.20"):
        wordnet.read_names.__wrapped__()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"found no timm; install timm >= 1.0.20"):
        wordnet.read_names.__wrapped__()


def test_a_broken_file_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "synsets.tsv.gz"
    for content in (None, b"no gzip", SYNSETS.read_bytes()[:1000], SYNSETS.read_bytes()[:1000] + b"x" * 1000):
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(wordnet, "SYNSETS", path)
        with pytest.raises(UserError, match="reinstall prismkd"):
            wordnet._read_rows()


def test_torch_and_timm_are_not_imported() -> None:
    code = (
        "import sys\n"
        "from prismkd.classes import wordnet\n"
        "assert wordnet.kind(wordnet.senses_of('poodle')[0].id) == 'animal' and wordnet.hyponyms('n02084071')\n"
        "print(*sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_file_is_small_and_has_its_license() -> None:
    assert SYNSETS.stat().st_size < 400_000
    license = (SYNSETS.parent / "LICENSE").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in license
    assert "without fee or" in license and "AS IS" in license


# How the file was made, on a few nouns.

NOUNS = {
    "n1": Noun("03", ("organism",), "", ()),
    "n2": Noun("05", ("animal",), "", ("n1",)),
    "n3": Noun("05", ("canine",), "", ("n2",)),
    "n4": Noun("05", ("pet",), "", ("n2",)),
    "n5": Noun("05", ("dog",), "", ("n3", "n4")),
    "n6": Noun("13", ("soup",), "", ()),
}


def test_a_parent_outside_the_list_is_replaced_by_its_nearest_ancestors() -> None:
    assert listed_parents("n5", NOUNS, {"n1", "n2", "n3", "n4", "n5"}) == ["n3", "n4"]
    assert listed_parents("n5", NOUNS, {"n1", "n2", "n4", "n5"}) == ["n2", "n4"]
    assert listed_parents("n5", NOUNS, {"n1", "n5"}) == ["n1"]
    assert listed_parents("n5", NOUNS, {"n5"}) == []


def test_the_nearest_root_gives_the_kind_and_the_first_kind_breaks_ties() -> None:
    assert kind_of("n5", NOUNS, {"n1": "plant", "n2": "animal"}) == "animal"
    assert kind_of("n5", NOUNS, {"n2": "animal", "n4": "object"}) == "object"
    assert kind_of("n5", NOUNS, {"n3": "object", "n4": "person"}) == "person"
    assert (kind_of("n5", NOUNS, {}), kind_of("n6", NOUNS, {})) == ("object", "food")


def test_wordnet_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.noun"
    path.write_text(
        "  1 This software and database is being provided to you\n"
        "02113335 05 n 02 poodle 0 poodle_dog 0 003 @ 02084071 n 0000 ~ 02113624 n 0000 @i 00000001 n 0000 "
        '| an intelligent dog; "a | in it"  \n'
    )
    assert read_nouns(path) == {
        POODLE: Noun("05", ("poodle", "poodle dog"), 'an intelligent dog; "a | in it"', (DOG, "n00000001"))
    }


def test_only_counted_senses_have_a_number(tmp_path: Path) -> None:
    path = tmp_path / "index.noun"
    path.write_text(
        "  1 This software and database is being provided to you\n"
        "mouse n 4 4 @ ~ %p + 4 1 02330245 14289387 10335563 03793489  \n"
        "computer_mouse n 1 2 @ %p 1 0 03793489  \n"
        "bat n 5 6 @ ~ #m %p + ; 5 2 02139199 00458456 04292414 03132076 02806379  \n"
    )
    senses = read_counted_senses(path)
    assert senses == {"mouse": ["n02330245"], "computer mouse": [], "bat": ["n02139199", "n00458456"]}
    assert sense_numbers("n03793489", ("mouse", "computer mouse"), senses) == ""
    assert sense_numbers("n00458456", ("mouse", "Bat"), senses) == ",2"


def test_synsets_are_plain_values() -> None:
    assert find_synset(POODLE) == Synset(POODLE, ("poodle", "poodle dog"), find_synset(POODLE).definition)
