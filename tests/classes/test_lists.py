"""Class lists: the built-in ones, names of synsets, and hostile names."""

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from prismkd.assets import PICTOGRAMS
from prismkd.classes import ClassName, load_classes
from prismkd.classes.files import NO_SYNSET
from prismkd.classes.lists import BUILT_IN, names_of
from prismkd.classes.matching import ClassLabels
from prismkd.classes.wordnet import find_synset, read_names
from prismkd.errors import UserError

LENGTHS = {"imagenet-1k": 1000, "imagenet-100": 100, "imagenette": 10, "imagewoof": 10, "pacs": 7, "office-home": 65,
           "domainnet": 345}  # fmt: skip
IMAGENETS = ("imagenet-1k", "imagenet-100", "imagenette", "imagewoof")


Write = Callable[[str, str], str]


def test_embedded_classes_have_definitions_and_a_third_is_polysemous() -> None:
    classes = load_classes("pictograms")
    assert 96 <= len(classes) <= 120
    assert all(item.definition for item in classes)
    assert sum(item.polysemous for item in classes) * 3 >= len(classes)


def test_the_demo_has_24_of_the_embedded_classes() -> None:
    some = load_classes("pictograms-24")
    assert len(some) == 24
    assert all(item in load_classes("pictograms") for item in some)


def test_built_in_lists_have_their_lengths_and_names_that_differ() -> None:
    assert set(BUILT_IN) == {*LENGTHS, "pictograms", "pictograms-24"}
    for name, length in LENGTHS.items():
        assert len({item.name for item in load_classes(name)}) == length


def test_built_in_tables_say_where_they_come_from() -> None:
    for name in LENGTHS:
        first, header, *_ = (PICTOGRAMS.parent / "classes" / f"{name}.tsv").read_text().splitlines()
        assert first.startswith("# ") and header == "name\tsynset"


@pytest.mark.parametrize(("name", "known"), [(n, LENGTHS[n]) for n in IMAGENETS] + [("pacs", 7), ("office-home", 57),
                                             ("domainnet", 264)])  # fmt: skip
def test_synsets_of_built_in_lists_exist_and_differ(name: str, known: int) -> None:
    synsets = [item.synset for item in load_classes(name) if item.synset != NO_SYNSET]
    assert len(set(synsets)) == len(synsets) == known
    assert all(find_synset(synset).id == synset for synset in synsets)


def test_imagenets_are_in_the_order_of_their_synsets_and_agree_on_names() -> None:
    names = {item.synset: item.name for item in load_classes("imagenet-1k")}
    for name in IMAGENETS:
        classes = load_classes(name)
        assert [item.synset for item in classes] == sorted(item.synset for item in classes)
        assert all(names[item.synset] == item.name for item in classes)


def test_imagenet_has_the_names_of_torchvision() -> None:
    spec = importlib.util.find_spec("torchvision")  # read, not imported, since it would load torch
    source = Path(str(spec and spec.origin)).with_name("models") / "_meta.py"
    lists = {node.targets[0].id: node.value for node in ast.parse(source.read_text()).body
             if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    assert [item.name for item in load_classes("imagenet-1k")] == ast.literal_eval(lists["_IMAGENET_CATEGORIES"])


@pytest.mark.parametrize(
    ("source", "label", "name", "synset"),
    [
        ("imagenet-1k", 0, "tench", "n01440764"),
        ("imagenet-1k", 134, "crane bird", "n02012849"),
        ("imagenet-1k", 517, "crane", "n03126707"),
        ("imagenet-1k", 638, "maillot", "n03710637"),
        ("imagenet-1k", 639, "maillot tank suit", "n03710721"),
        ("imagenet-1k", 999, "toilet tissue", "n15075141"),
        ("imagenet-100", 0, "robin", "n01558993"),
        ("imagenette", 3, "chain saw", "n03000684"),
        ("imagewoof", 9, "dingo", "n02115641"),
        ("pacs", 6, "person", "n00007846"),
        ("office-home", 36, "mouse", "n03793489"),
        ("office-home", 58, "TV", "n04405907"),
        ("office-home", 59, "table", "n04379243"),
        ("domainnet", 20, "bat", "n02139199"),
        ("domainnet", 67, "cell phone", "n02992529"),
        ("domainnet", 191, "mouse", "n02330245"),
        ("domainnet", 308, "The Eiffel Tower", "none"),
        ("domainnet", 327, "t-shirt", "n03595614"),
        ("domainnet", 344, "zigzag", "none"),
    ],
)
def test_known_labels(source: str, label: int, name: str, synset: str) -> None:
    assert load_classes(source)[label] == ClassName(name, synset=synset)


def test_wordnet_ids_as_names_are_recognized(write: Write) -> None:
    for name, text in (("a.txt", "n02084071\nn03000684\n"), ("a.csv", "synset\nn02084071\nn03000684\n")):
        assert load_classes(write(name, text)) == [
            ClassName("dog", synset="n02084071"),
            ClassName("chain saw", synset="n03000684"),
        ]


def test_a_name_beside_a_synset_is_kept(write: Write) -> None:
    path = write("classes.csv", "name,synset\nKranich,n02012849\nKran,n03126707\n")
    assert [item.name for item in load_classes(path)] == ["Kranich", "Kran"]


@pytest.mark.parametrize(
    "text",
    [
        "crane\nbus\ncrane\n",
        "Polish\npolish\n",
        "traffic_light\nbus\ntraffic light\n",
        "t-shirt\nt shirt\n",
        "cat\ncat \n",
    ],
)
def test_names_that_prompts_cannot_tell_apart_are_refused_and_no_advice_shifts_labels(write: Write, text: str) -> None:
    with pytest.raises(UserError, match="give each another name, a synset or a definition, and take none away"):
        load_classes(write("a.txt", text))


@pytest.mark.parametrize(
    "row",
    [
        "crane,n02012849,\ncrane,n02012849,",
        "crane,,a bird\ncrane,,",
        "crane,none,\ncrane,none,",
        "crane,,a bird\ncrane,,a bird",
    ],
)
def test_the_same_name_needs_a_meaning_of_its_own_each_time(write: Write, row: str) -> None:
    with pytest.raises(UserError, match="got 'crane' for the classes 1, 2"):
        load_classes(write("a.csv", f"name,synset,definition\n{row}\n"))


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (
            "crane,n02012849,\ncrane,n03126707,",
            ["crane (large long-necked wading bird)", "crane (lifts and moves heavy objects)"],
        ),
        ("crane,,a wading bird\ncrane,,a machine; it lifts loads", ["crane (a wading bird)", "crane (a machine)"]),
        (
            "maillot,n03710637,\nmaillot,n03710721,",
            ["maillot (tights for dancers or gymnasts)", "maillot (a woman's one-piece bathing suit)"],
        ),
        ("Polish,,of Poland\npolish,,what shines shoes", ["Polish", "polish"]),
        ("sunglass,n04355933,\nsunglasses,n04356056,", ["sunglass", "sunglasses"]),
    ],
)
def test_a_name_that_classes_share_is_told_apart_by_what_they_mean(write: Write, rows: str, names: list[str]) -> None:
    classes = load_classes(write("a.csv", f"name,synset,definition\n{rows}\nbus,,\n"))
    assert [item.name for item in classes] == [*names, "bus"]


def test_test_folders_in_order_find_classes_that_share_a_name(write: Write) -> None:
    classes = load_classes(write("a.csv", "name,definition\ncrane,a wading bird\ncrane,a machine\nbus,\n"))
    labels = ClassLabels(names_of(classes))
    assert labels.are_in_order(["crane", "crane", "bus"]) and labels.find("crane") is None


def test_ids_that_share_their_first_word_get_different_names(write: Write) -> None:
    classes = load_classes(write("classes.txt", "\n".join(read_names())))
    assert len({item.name for item in classes}) == len(classes) == len(read_names())
    assert {item.synset: item.name for item in classes}["n02012849"] == "crane bird"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got none"),
        ("cat\n", "got only 'cat'"),
        ("cat\ndog\ncat\n", "got 'cat' for the classes 1, 3; give each another name, a synset or a definition"),
        ("cat\n../etc\n", "the character '/'"),
        ("cat\n..\n", "got '..'"),
        ("cat\n<script>\n", "the character '<'"),
        ("cat\nd\0g\n", r"got '\x00' in line 2"),
        ("cat\n" + "x" * 10_000, "10000 characters"),
        ("cat\nn01440765\n", "(the class 'n01440765' of "),
    ],
)
def test_bad_lists_are_refused(write: Write, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_classes(write("classes.txt", text))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,synset\ncat,n99999999\ndog,\n", "(the class 'cat' of "),
        ("a.csv", "name,synset\ncat,feline\ndog,\n", "(the class 'cat' of "),
        ("a.csv", f"name,definition\ncat,{'x' * 10_000}\ndog,\n", "got that of 'cat' with 10000 characters"),
        ("a.csv", "name,definition\ncat,<b>\ndog,\n", "got that of 'cat' with the character '<'"),
        ("a.csv", "name,synonyms\ncat,pussy|../x\ndog,\n", "the character '/'"),
        ("a.json", '["\\ud800", "b"]', "text of whole characters as [0]"),
    ],
)
def test_bad_names_definitions_and_synsets_are_refused(write: Write, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_classes(write(name, text))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagenete", "perhaps imagenette"),
        ("ImageNet-1k", "perhaps imagenet-1k"),
        ("PACS", "perhaps pacs"),
        ("office_home", "perhaps office-home"),
        ("nowhere.txt", "name a file or one of pictograms, pictograms-24, imagenet-1k"),
        ("a\0b", "expected a readable class list"),
        (".", "expected a readable class list"),
    ],
)
def test_sources_that_are_nothing_get_an_offer(source: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_classes(source)
    assert message in str(error.value)
