"""English enough for prompts, the same for all methods."""

import re

import pytest

from prismkd.classes import ClassName, load_classes
from prismkd.classes.lists import BUILT_IN
from prismkd.prompts import plain_plan
from prismkd.prompts.content import PLAIN
from prismkd.prompts.grammar import compose, is_plural, plural, to_words, with_article
from prismkd.prompts.senses import candidate_wordings


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
        ("a big {}", "luggage", "a photo of big luggage"),
        ("a {} on a table", "wifi, a wireless signal", "a photo of wifi on a table, a wireless signal"),
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


# --- the names of the built-in class lists -------------------------------------------------------------------------

NAMES = sorted({item.name for name in BUILT_IN for item in load_classes(name)})
# What the library inflect 7.6 says of these names, beyond the letter rules below; computed once.
ARTICLES = {
    "European fire salamander": "a",
    "European gallinule": "a",
    "hourglass": "an",
    "unicycle": "a",
}
NO_ARTICLE = set(
    "The Eiffel Tower|The Great Wall of China|The Mona Lisa|batteries|binoculars|candles|curtains|drums|flip flops|"
    "flowers|glasses|grapes|headphones|knives|matches|pants|peas|pliers|scissors|shorts|sneakers|stairs|sunglasses|"
    "swimming trunks|toys".split("|")
)
IRREGULAR = {
    "Bouvier des Flandres": "Bouviers des Flandres", "French loaf": "French loaves", "Pekinese": "Pekinese",
    "anemone fish": "anemone fish", "banded gecko": "banded geckoes", "banjo": "banjoes", "crayfish": "crayfish",
    "dingo": "dingoes", "fish": "fish", "flamingo": "flamingoes", "foot": "feet", "goldfish": "goldfish",
    "goose": "geese", "harvestman": "harvestmen", "hen-of-the-woods": "hens-of-the-woods", "jellyfish": "jellyfish",
    "junco": "juncoes", "knife": "knives", "leaf": "leaves", "lionfish": "lionfish", "malinois": "malinois",
    "mashed potato": "mashed potatoes", "meat loaf": "meat loaves", "mosquito": "mosquitoes", "mouse": "mice",
    "ox": "oxen", "person": "people", "potato": "potatoes", "red wolf": "red wolves", "sheep": "sheep",
    "shelf": "shelves", "snowman": "snowmen", "starfish": "starfish", "timber wolf": "timber wolves",
    "tooth": "teeth", "tornado": "tornadoes", "volcano": "volcanoes", "water buffalo": "water buffaloes",
    "white wolf": "white wolves",
}  # fmt: skip
# Where it is wrong: "a clipboards", "a luggage", "clipboardss", "burritoes", "bicycle builts-for-two"
PLURAL_NAMES = set("clipboards|dice|eyeglasses|flipflops|parallel bars|postit notes|rollerskates|stitches".split("|"))
MASS_NAMES = set(
    "asparagus|bread|broccoli|chain mail|chess|chocolate sauce|corn|grass|guacamole|hay|lightning|luggage|rain|"
    "toilet tissue|trash|velvet|wifi|wool".split("|")
)
CORRECTED = {
    "Doberman": "Dobermans", "Great Pyrenees": "Great Pyrenees", "Model T": "Model Ts",
    "bicycle-built-for-two": "bicycles-built-for-two", "bison": "bison", "burrito": "burritos", "coho": "cohos",
    "kuvasz": "kuvaszes", "monarch": "monarchs", "patas": "patases", "triceratops": "triceratops",
}  # fmt: skip


def test_the_article_of_every_built_in_name() -> None:
    """By its first letter, but for the exceptions; none before a plural, a mass noun or another article."""
    for name in NAMES:
        article = ARTICLES.get(name, "an" if name[0] in "aeiouAEIOU" else "a")
        expected = name if name in NO_ARTICLE | PLURAL_NAMES | MASS_NAMES else f"{article} {name}"
        assert with_article(name) == expected


def test_the_plural_of_every_built_in_name() -> None:
    """With s, es or ies, but for the exceptions."""
    for name in set(NAMES) - NO_ARTICLE - PLURAL_NAMES - MASS_NAMES:
        regular = re.sub(r"([^aeiou])y$", r"\1ie", name) + ("es" if re.search(r"(?:s|x|z|ch|sh)$", name) else "s")
        assert plural(name) == (IRREGULAR | CORRECTED).get(name, regular)
    assert all(plural(name) == name for name in NO_ARTICLE - {"The Eiffel Tower"} | PLURAL_NAMES if name.endswith("s"))
    assert all(plural(name) == name for name in MASS_NAMES)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("oasis", "oases"), ("axis", "axes"), ("chassis", "chassis"), ("lens", "lenses"), ("quiz", "quizzes"),
     ("stomach", "stomachs"), ("blouse", "blouses"), ("dormouse", "dormice"), ("mongoose", "mongooses"),
     ("human", "humans"), ("woman", "women"), ("grandchild", "grandchildren"), ("musk ox", "musk oxen"),
     ("mailbox", "mailboxes"), ("Siamese", "Siamese"), ("housewife", "housewives"), ("roof", "roofs"),
     ("echo", "echoes"), ("kimono", "kimonos"), ("soliloquy", "soliloquies"), ("brother-in-law", "brothers-in-law")],
)  # fmt: skip
def test_plurals_beyond_the_lists(noun: str, expected: str) -> None:
    assert plural(noun) == expected


# --- sounds and spellings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phrase",
    "an hour,an honest man,an heir,an heirloom,a house,a unicorn,a university,a ukulele,a Ukrainian dish,a eucalyptus,"
    "a ewe,a one-way street,a once-used cup,an onion,an Oneida spoon,an umbrella,an unusual bird,an unidentified bird,"
    "an uninhabited isle,a useful tool,an usher,a Ouija board,a yacht,an ytterbium crystal,an \u00e9clair,"
    "an MRI scan,a TV,a CD player,an X-ray,a T-shirt,a U-boat,an SUV,an LED lamp,an M4,a NASA rocket,a SHIP,an OWL,"
    "an 8-ball,an 18-wheeler,a 110 film,a 3D printer,an HIV test,a HOUSE,an HOUR,an mp3 player,an x ray,a UFO".split(
        ","
    ),
)
def test_the_article_follows_the_sound(phrase: str) -> None:
    article, _, noun = phrase.partition(" ")
    assert with_article(noun) == f"{article} {noun}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("traffic_light", "traffic light"),
        ("traffic-light", "traffic light"),
        ("Alarm_Clock", "Alarm Clock"),
        ("three-toed_sloth", "three-toed sloth"),
        ("T-shirt", "T-shirt"),
        ("frobnicator-mark-2", "frobnicator mark 2"),
        ("AnnualCrop", "Annual Crop"),
        ("iPhone", "iPhone"),
        ("McDonald", "McDonald"),
        ("SUV", "SUV"),
        ("TV", "TV"),
        ("UNICORN", "unicorn"),
        ("CAT", "cat"),
        ("TRAFFIC_LIGHT", "traffic light"),
        ("crane (bird)", "crane, bird"),
        ("maillot_(tank_suit)", "maillot, tank suit"),
        ("crane (n02012849)", "crane"),
        ("(odd)", "(odd)"),
    ],
)
def test_underscores_and_hyphens_are_blanks_unless_the_word_is_spelled_so(name: str, words: str) -> None:
    assert to_words(name) == words


# --- one English for all methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["pictograms", "office-home", "imagenet-1k"])
def test_the_plain_prompt_is_dpes_plain_form(source: str) -> None:
    """A template with "a {name}" and the content "a {}" in the same style give one prompt for a bare name."""
    classes = load_classes(source)
    plan = plain_plan(classes, 0, "a photo of a {name}")
    wordings = [candidate_wordings(item, max_senses=4)[0].text for item in classes]
    assert [plan[label].text for label in range(len(classes))] == [
        compose("a photo of {}", PLAIN, text) for text in wordings
    ]


@pytest.mark.parametrize(
    ("template", "name", "text"),
    [
        ("a photo of a {name}", "umbrella", "a photo of an umbrella"),
        ("a photo of a {name}", "glasses", "a photo of glasses"),
        ("a photo of a {name}", "traffic_light", "a photo of a traffic light"),
        ("a photo of a large {name} at night", "scissors", "a photo of large scissors at night"),
        ("a photo of the {name}", "umbrella", "a photo of the umbrella"),
        ("a photo of {name}", "glasses", "a photo of glasses"),
        ("{name}", "three-toed sloth", "three-toed sloth"),
        ("a photo of a {name}", "tench, Tinca tinca", "a photo of a tench, Tinca tinca"),
        (
            "a photo of a {name}",
            "traffic light, traffic signal, stoplight",
            "a photo of a traffic light, traffic signal, stoplight",
        ),
        ("a photo of a {name} at night", "hour", "a photo of an hour at night"),
        ("a photo of a {name}", "unicorn", "a photo of a unicorn"),
        ("a photo of a {name}", "SUV", "a photo of an SUV"),
        ("a photo of a {name}", "UMBRELLA", "a photo of an umbrella"),
        ("a photo of a {name} on a table", "deviled_eggs", "a photo of deviled eggs on a table"),
        ("a photo of a {name}", "french_fries", "a photo of french fries"),
        ("a photo of a {name}", "8", "a photo of an 8"),
        ("a photo of a {name} in the rain", "crane (machine)", "a photo of a crane in the rain, machine"),
    ],
)
def test_a_template_gets_the_article_that_the_name_wants(template: str, name: str, text: str) -> None:
    assert plain_plan([ClassName(name), ClassName("other")], 0, template)[0].text == text
