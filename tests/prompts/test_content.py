"""Contents: grammar, sub-kinds, near-duplicates."""

import pytest

from prismkd.prompts.content import (
    ICON_CONTENTS,
    KIND_CONTENTS,
    compose,
    contents_of,
    is_plural,
    subkinds,
    without_near_duplicates,
)
from prismkd.prompts.wordnet import hyponyms


@pytest.mark.parametrize(
    ("content", "sense", "text"),
    [
        ("a {}", "apple", "a photo of an apple"),
        ("a {}", "unicorn", "a photo of a unicorn"),
        ("a small {}", "scissors", "a photo of small scissors"),
        ("a person wearing a {}", "sunglasses", "a photo of a person wearing sunglasses"),
        ("several {s}", "bus", "a photo of several buses"),
        ("a group of {s}", "mouse, any small rodent", "a photo of a group of mice, any small rodent"),
        ("a {} beside water", "crane, wading bird", "a photo of a crane beside water, wading bird"),
        ("a poodle, a kind of dog", "dog", "a photo of a poodle, a kind of dog"),
    ],
)
def test_prompts_are_grammatical(content: str, sense: str, text: str) -> None:
    assert compose("a photo of {}", content, sense) == text


@pytest.mark.parametrize("noun", ["bus", "iris", "compass", "gas", "lens", "sheep", "pair of glasses", "mouse"])
def test_singulars_that_look_like_plurals(noun: str) -> None:
    assert not is_plural(noun)


@pytest.mark.parametrize("noun", ["glasses", "scissors", "reading glasses", "jeans", "swimming trunks"])
def test_plurals(noun: str) -> None:
    assert is_plural(noun)


def test_a_sense_brings_its_sub_kinds_and_its_grammar() -> None:
    dog = contents_of("photo", "n02084071")
    assert dog[0] == "a {}" and "the face of a {}" in dog
    assert any(content.endswith("a kind of dog") for content in dog)
    piano = contents_of("photo", "n03928116")
    assert "a person playing a {}" in piano and "a grand piano" in piano  # its name says what it is
    assert contents_of("photo", "")[: len(KIND_CONTENTS["object"])] == list(KIND_CONTENTS["object"])
    assert contents_of("filled", "n02084071") == list(ICON_CONTENTS)


def test_a_language_models_contents_take_the_grammars_place() -> None:
    assert contents_of("photo", "", ["a {} at dawn", "A {}  at DAWN", "a sleepy {}"]) == [
        "a {}", "a {} at dawn", "a sleepy {}"]  # fmt: skip
    assert contents_of("filled", "", ["a round {}"]) == ["a {}", "a round {}"]


def test_other_classes_are_no_sub_kinds_and_people_have_none() -> None:
    grand = next(item for item in hyponyms("n03928116") if "grand piano" in item.lemmas)
    assert "a grand piano" not in contents_of("photo", "n03928116", others={grand.id})
    assert subkinds("n00007846", ()) == []  # person
    assert subkinds("", ()) == []


def test_near_duplicates_have_the_same_words() -> None:
    phrases = ["a {} on a table", "the {} on the table", "on a table, a {}", "a {} under a table", "tables {}"]
    assert without_near_duplicates(phrases) == ["a {} on a table", "a {} under a table", "tables {}"]


def test_no_grammar_repeats_itself_or_forgets_the_class() -> None:
    for contents in KIND_CONTENTS.values():
        assert without_near_duplicates(contents) == list(contents)
        assert contents[0] == "a {}" and all("{}" in c or "{s}" in c for c in contents)
