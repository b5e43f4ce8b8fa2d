"""A folder's name finds its class, by whatever name, or an error that helps."""

from __future__ import annotations

import pytest

from prismkd.classes.lists import load_classes, names_of
from prismkd.classes.matching import ClassLabels, normalize
from prismkd.classes.wordnet import find_synset
from prismkd.errors import UserError


@pytest.mark.parametrize("written", ["alarm clock", "Alarm_Clock", "alarm-clock", " ALARM  clock_"])
def test_case_underscores_hyphens_and_blanks_make_no_other_name(written: str) -> None:
    assert normalize(written) == "alarm clock"
    assert ClassLabels([["clock"], ["alarm clock"]]).find(written) == 1


def test_an_accent_is_the_same_in_the_folders_of_a_mac() -> None:
    assert ClassLabels([["bus"], ["caf\u00e9"]]).find("cafe\u0301") == 1


def test_a_letter_makes_another_name() -> None:
    assert normalize("Maße") != normalize("Masse")


@pytest.fixture(scope="module")
def imagenet() -> ClassLabels:
    return ClassLabels(names_of(load_classes("imagenet-1k")))


def test_a_class_is_found_by_its_synset_its_name_and_wordnets_words(imagenet: ClassLabels) -> None:
    for name in ("n01443537", "goldfish", "Goldfish", "Carassius_auratus", "goldfish, Carassius auratus"):
        assert imagenet.find(name) == 1
    assert imagenet.find("no such thing") is None


def test_every_synset_of_imagenet_is_its_own_label_in_whatever_order_folders_come(imagenet: ClassLabels) -> None:
    synsets = [item.synset for item in load_classes("imagenet-1k")]
    assert imagenet.of(synsets, "x") == list(range(1000))
    assert imagenet.of(synsets[::-1], "x") == list(range(1000))[::-1]


def test_numbered_folders_are_labels_and_not_places_in_a_sorted_list(imagenet: ClassLabels) -> None:
    folders = sorted(map(str, range(1000)))  # 0, 1, 10, 100, ...: as ImageNet-V2's folders are listed
    assert imagenet.of(folders, "x") == [int(name) for name in folders]


def test_classes_that_are_called_by_numbers_are_found_by_name() -> None:
    assert ClassLabels([["3"], ["1"], ["2"]]).of(["1", "2", "3"], "x") == [1, 2, 0]


@pytest.mark.parametrize(
    ("source", "folders"),
    [
        ("pacs", {"dog": "dog", "guitar": "guitar", "person": "person"}),
        ("office-home", {"Alarm_Clock": "alarm clock", "Postit_Notes": "postit notes", "TV": "TV", "Bed": "bed"}),
        ("domainnet", {"aircraft_carrier": "aircraft carrier", "The_Eiffel_Tower": "The Eiffel Tower"}),
    ],
)
def test_the_folders_of_the_domain_benchmarks(source: str, folders: dict[str, str]) -> None:
    classes = load_classes(source)
    found = ClassLabels(names_of(classes)).of(list(folders), "x")
    assert [classes[label].name for label in found] == list(folders.values())


@pytest.mark.parametrize("source", ["imagenet-1k", "imagenet-100", "pacs", "office-home", "domainnet"])
def test_every_class_is_found_by_its_name_with_underscores(source: str) -> None:
    names = [item.name for item in load_classes(source)]
    folders = [name.replace(" ", "_") for name in names]
    assert ClassLabels(names_of(load_classes(source))).of(folders, "x") == list(range(len(names)))


def test_a_name_that_two_classes_share_is_nobodys_but_its_owners() -> None:
    labels = ClassLabels(
        [["crane", "n02012849"], ["lifting device", "n03126707", "crane"], ["owl", "bird"], ["robin", "bird"]]
    )
    assert labels.find("crane") == 0
    assert labels.find("bird") is None


def test_names_that_differ_by_case_only_are_told_apart() -> None:
    labels = ClassLabels([["polish"], ["Polish"]])
    assert (labels.find("polish"), labels.find("Polish"), labels.find("POLISH")) == (0, 1, None)


def test_imagenets_words_name_two_classes_alike_and_are_told_by_their_places(imagenet: ClassLabels) -> None:
    words = [find_synset(item.synset).lemmas[0] for item in load_classes("imagenet-1k")]
    assert words.count("crane") == 2
    assert imagenet.are_in_order(words)
    assert not imagenet.are_in_order(words[1:] + words[:1])
    assert not imagenet.are_in_order(words[:100])


def test_unknown_folders_are_named_with_the_nearest_classes(imagenet: ClassLabels) -> None:
    names = ["goldfsh", "goldfish", *(f"thing {number}" for number in range(9))]
    with pytest.raises(UserError, match=r"got 10 of 11 that are none: 'goldfsh' \(perhaps 'goldfish'\)") as caught:
        imagenet.of(names, "some/folder")
    assert "and 5 more" in str(caught.value) and "some/folder" in str(caught.value) and "\n" not in str(caught.value)


def test_a_number_beyond_the_classes_is_no_label() -> None:
    with pytest.raises(UserError, match="'7'"):
        ClassLabels([["a"], ["b"]]).of(["0", "7"], "x")


def test_two_folders_of_one_class_are_refused(imagenet: ClassLabels) -> None:
    with pytest.raises(UserError, match="'goldfish' and 'n01443537', which all stand for 'goldfish'"):
        imagenet.of(["goldfish", "n01443537"], "x")


def test_classes_that_are_left_out_have_no_label() -> None:
    labels = ClassLabels([["bell"], ["key"]], left_out=["Bird", "fish"])
    assert labels.of(["key", "bird", "bell", "FISH"], "x") == [1, -1, 0, -1]
    with pytest.raises(UserError, match="got 1 of 2 that are none: 'tree'"):
        labels.of(["tree", "bird"], "x")
