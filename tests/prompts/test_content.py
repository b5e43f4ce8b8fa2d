"""Contents: grammar, sub-kinds, near-duplicates."""

import pytest

from prismkd.classes.files import NO_SYNSET
from prismkd.classes.wordnet import hyponyms
from prismkd.prompts.content import (
    ICON_CONTENTS,
    KIND_CONTENTS,
    contents_of,
    goes_with,
    kind_of,
    subkinds,
    without_near_duplicates,
)
from prismkd.prompts.plan import PromptPlan, Subject
from prismkd.prompts.senses import Sense, Wording
from prismkd.prompts.styles import Style


def sense(name: str, synset: str = "", contents: tuple[str, ...] = (), definition: str = "") -> Sense:
    return Sense(name, (Wording(definition or name, "definition" if definition else "synset", synset, contents),))


def test_a_sense_brings_its_sub_kinds_and_its_grammar() -> None:
    dog = contents_of("photo", sense("dog", "n02084071"))
    assert dog[0] == "a {}" and "the face of a {}" in dog
    assert any(content.endswith("a kind of dog") for content in dog)
    piano = contents_of("photo", sense("piano", "n03928116"))
    assert "a person playing a {}" in piano and "a grand piano" in piano  # its name says what it is
    assert contents_of("photo", sense("frobnicator")) == list(KIND_CONTENTS["thing"])
    assert contents_of("filled", sense("dog", "n02084071")) == list(ICON_CONTENTS)


def test_a_language_models_contents_take_the_grammars_place() -> None:
    assert contents_of("photo", sense("frobnicator", contents=("a {} at dawn", "A {}  at DAWN", "a sleepy {}"))) == [
        "a {}", "a {} at dawn", "a sleepy {}"]  # fmt: skip
    assert contents_of("filled", sense("frobnicator", contents=("a round {}",))) == ["a {}", "a round {}"]


def test_sub_kinds_are_classes_of_imagenet_but_no_other_class() -> None:
    grand = next(item for item in hyponyms("n03928116") if "grand piano" in item.lemmas)
    assert "a grand piano" not in contents_of("photo", sense("piano", "n03928116"), others={grand.id})
    assert subkinds("n03028079", ()) == []  # church: WordNet knows the kirk, but no picture does
    assert subkinds("", ()) == []


def test_what_lies_below_another_class_is_no_sub_kind() -> None:
    fish, shark = "n02512053", "n01482330"
    assert any("shark" in item for item in subkinds(fish, ()))
    assert not any("shark" in item for item in subkinds(fish, {shark}))


def test_without_a_synset_the_definition_or_the_name_tells_the_kind() -> None:
    assert kind_of(sense("crane", definition="large wading bird of marshes")) == "animal"
    assert kind_of(sense("crane", definition="machine that lifts loads")) == "object"
    assert kind_of(sense("giraffe")) == "animal"  # in all of its senses
    assert kind_of(sense("mouse")) == kind_of(sense("frobnicator")) == "thing"  # who knows
    assert kind_of(sense("beard", NO_SYNSET)) == "thing"  # WordNet's beard in the list is a person


def test_there_is_one_eiffel_tower() -> None:
    contents = contents_of("photo", sense("The Eiffel Tower"))
    assert "a {} outdoors" in contents and not any("{s}" in c or "small" in c for c in contents)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("a red {}", "a blue icon of {} on a white background"),
        ("a Black and White {}", "an orange icon of {} on a purple background"),
        ("a brown {}", "a black and white photo of {}"),
        ("a colorful {}", "a quick doodle of {} in a few black strokes on white"),
        ("a {} far away", "a close-up photo of {}"),
        ("a {} at sunrise", "a photo of {} at dusk"),
        ("a {} on a plain background", "a photo of {} with a blurred background"),
    ],
)
def test_a_content_that_contradicts_its_style_gives_way_to_the_plain_form(content: str, phrase: str) -> None:
    assert not goes_with(content, phrase) and goes_with(content, "a sketch of {}") and goes_with("a {}", phrase)
    plan = PromptPlan((Subject("bell", "bell", (content, "a small {}"), (1.0,)),), (Style("x", "x", phrase, 1.0),), 0)
    assert {plan[i].text for i in range(9)} == {phrase.replace("{}", "a bell"), phrase.replace("{}", "a small bell")}


def test_a_color_within_a_word_is_none() -> None:
    assert goes_with("a {} with blueberries", "a red icon of {} on a white background")
    assert goes_with("a red {}", "a color emoji icon of {}") and goes_with(
        "a red {}", "a photo of {} with flash at night"
    )


def test_near_duplicates_have_the_same_words() -> None:
    phrases = ["a {} on a table", "the {} on the table", "on a table, a {}", "a {} under a table", "tables {}"]
    assert without_near_duplicates(phrases) == ["a {} on a table", "a {} under a table", "tables {}"]


def test_no_grammar_repeats_itself_or_forgets_the_class() -> None:
    for contents in KIND_CONTENTS.values():
        assert without_near_duplicates(contents) == list(contents)
        assert contents[0] == "a {}" and all("{}" in c or "{s}" in c for c in contents)
