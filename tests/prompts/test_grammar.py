"""English enough for prompts."""

import pytest

from prismkd.prompts.grammar import compose, is_plural


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
        ("a sea {}", "otter", "a photo of a sea otter"),
        ("an {}", "red fruit", "a photo of a red fruit"),
        ("a big, red {}", "scissors", "a photo of big, red scissors"),
        ("a {}", "The Eiffel Tower", "a photo of The Eiffel Tower"),
        ("a {} on a table", "machine that lifts loads", "a photo of a machine that lifts loads on a table"),
        ("two {s}", "animal that eats leaves", "a photo of two animals that eats leaves"),
        ("{}", ", x", "a photo of , x"),
        ("a papillon, a kind of dog", "dog, a canine", "a photo of a papillon, a kind of dog"),
        ("two {s}", "TV", "a photo of two TVs"),
        ("several {s}", "flip flops", "a photo of several flip flops"),
        ("a small {}", "mice", "a photo of small mice"),
    ],
)
def test_prompts_are_grammatical(content: str, sense: str, text: str) -> None:
    assert compose("a photo of {}", content, sense) == text


SINGULARS = "laptop banana moss bus iris rhinoceros triceratops compass gas lens sheep mouse hen-of-the-woods".split()


@pytest.mark.parametrize("noun", [*SINGULARS, "pair of glasses", "Bouvier des Flandres"])
def test_singulars_that_look_like_plurals(noun: str) -> None:
    assert not is_plural(noun)


PLURALS = "glasses scissors laptops mops bananas cameras mice children peas jeans".split()


@pytest.mark.parametrize("noun", [*PLURALS, "reading glasses", "swimming trunks"])
def test_plurals(noun: str) -> None:
    assert is_plural(noun)
