"""Content diversification: what varies inside a class, such as pose, number, surroundings and sub-kinds.

A content is a phrase with ``{}`` for the class in its sense, or ``{s}`` for its plural. Contents come from a language
model, or from the lists here and WordNet's sub-kinds, which need no network and are the same every time.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from functools import cache, lru_cache

from prismkd.classes import wordnet
from prismkd.classes.lists import load_classes
from prismkd.prompts.grammar import DETERMINED, head_noun, with_article
from prismkd.prompts.senses import Sense
from prismkd.prompts.styles import ICON_DOMAINS

# What both styles and contents say of a picture. Only one of them may, or one would get "a black and white photo of a
# red car", "a close-up photo of a church far away" or "a bell on a plain background on a red background".
ATTRIBUTES = tuple(
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for words in (
        "red|orange|yellow|green|teal|blue|purple|violet|pink|brown|gr[ae]y|black|white|golden|silver|colou?rful",
        "daylight|night|dawn|dusk|sunrise|sunset|sunny|moonlit|dark clouds",
        "close-up|wide-angle|far away|distant|from the air",
        "background|paper",
    )
)
MAX_SUBKINDS = 8  # beside the 10 to 16 phrases of a list; ImageNet-1k alone has 118 kinds of dog
PLAIN = "a {}"

# An icon can show little more than the thing itself, so the plain form is there three times: a plan gives every entry
# an equal share, and most of the icons that teachers are trained on are plain. What varies fits suns and servers alike.
ICON_CONTENTS = ("a {}", "a simple {}", "a {}", "a small {}", "a detailed {}", "a {}", "a big {}")
# By wordnet.KINDS, and "thing" where the kind isn't known. What fits one kind is odd with another: no building sleeps.
KIND_CONTENTS: dict[str, tuple[str, ...]] = {
    "animal": (
        "a {}", "a {} seen from the side", "the face of a {}", "a young {}", "an old {}", "a {} at rest",
        "a {} in motion", "a {} among plants", "a {} beside water", "a {} on bare ground", "two {s} together",
        "a group of {s}", "a {} far away in a wide landscape", "a {} partly hidden", "a {} from above", "a {} eating",
    ),
    "person": (
        "a {}", "a {} at work", "the face of a {}", "a young {}", "an old {}", "a {} from behind", "two {s} talking",
        "a group of {s}", "a {} in a street", "a {} indoors", "a {} sitting", "a {} far away in a wide landscape",
    ),
    "plant": (
        "a {}", "a {} in close-up", "a {} in a garden", "many {s}", "a {} in a pot", "a {} after rain", "a withered {}",
        "a {} against the sky", "a wild {}", "a {} held in a hand", "a {} in a forest", "a {} from above",
    ),
    "food": (
        "a {}", "a {} on a plate", "a {} on a wooden table", "a {} in close-up", "a {} cut open", "a half-eaten {}",
        "several {s}", "a {} in a bowl", "a {} held in a hand", "a {} at a market", "a {} in a kitchen",
        "a {} from above",
    ),
    "vehicle": (
        "a {}", "a {} from the front", "a {} from the side", "a {} from behind", "an old {}", "a modern {}",
        "a parked {}", "a moving {}", "a row of {s}", "a {} far away", "a small {}", "a {} in the rain", "a rusty {}",
        "the inside of a {}",
    ),
    "building": (
        "a {}", "the entrance of a {}", "a {} from below", "a {} far away", "an old {}", "a modern {}",
        "a {} among trees", "a {} in a city", "a {} at night", "the inside of a {}", "a {} from the air",
        "a ruined {}",
    ),
    "clothing": (
        "a {}", "a person wearing a {}", "a folded {}", "a {} on a hanger", "a patterned {}", "a worn {}",
        "a {} on a table", "several {s}", "a {} in close-up", "a {} on a mannequin", "a {} in a shop", "a dark {}",
    ),
    "instrument": (
        "a {}", "a person playing a {}", "a {} on a stand", "a {} on a stage", "an old {}", "a {} in its case",
        "a {} in close-up", "several {s}", "a {} in a living room", "a {} in a shop", "a {} from above",
    ),
    "place": (
        "a {}", "a {} at sunrise", "a {} from the air", "a {} in winter", "a {} with people", "a {} under dark clouds",
        "a {} in summer", "a {} far away", "a {} in close-up", "a {} in fog",
    ),
    "thing": (
        "a {}", "a {} in close-up", "a {} from above", "a {} from the side", "several {s}", "a small {}", "a large {}",
        "a {} outdoors", "a {} indoors", "a {} on a plain background", "a {} far away", "part of a {}",
    ),
    "object": (
        "a {}", "a {} in close-up", "a {} on a table", "a {} held in a hand", "an old worn {}", "a new {}",
        "a small {}", "a large {}", "several {s}", "a {} in use", "a {} outdoors", "a {} from above",
        "a {} from the side", "a {} in a cluttered room", "a {} on a plain background", "part of a {}",
    ),
}  # fmt: skip


def contents_of(domain: str, sense: Sense, others: Container[str] = ()) -> list[str]:
    """The contents of one class, the plain form first, without near duplicates.

    Args:
        domain: the teacher's own style domain; icons have a list of their own.
        sense: the class's. Its WordNet id gives the sub-kinds and the list for its kind; a language model's contents
            take that list's place.
        others: synset ids of all classes. What lies below another class is no sub-kind of this one: a shark is a fish,
            but where sharks are a class too, no fish should be drawn as one.
    """
    if domain.partition(":")[0].strip() in ICON_DOMAINS and not sense.contents:
        return list(ICON_CONTENTS)
    varied: Sequence[str] = sense.contents or KIND_CONTENTS[kind_of(sense)]
    if DETERMINED.match(sense.text):  # there is one Eiffel Tower
        varied = [content for content in varied if PLAIN in content]
    return without_near_duplicates([PLAIN, *varied, *subkinds(sense.synset, others)])


def kind_of(sense: Sense) -> str:
    """The key of ``KIND_CONTENTS`` for a class, "thing" where nothing tells.

    It is the synset's kind; without a synset that of the name, if all its senses agree; or that of the noun in a
    definition that the user gives.
    """
    if sense.synset:
        return wordnet.kind(sense.synset)
    kinds = set() if sense.unlisted else {wordnet.kind(item.id) for item in wordnet.senses_of(sense.class_name)}
    if len(kinds) != 1 and sense.wording.source == "definition":
        kinds = {wordnet.kind(item.id) for item in wordnet.senses_of(head_noun(sense.text))[:1]}
    return kinds.pop() if len(kinds) == 1 else "thing"


def subkinds(synset: str, others: Container[str]) -> list[str]:
    """Phrases for at most ``MAX_SUBKINDS`` kinds of a class that are themselves classes of ImageNet-1k.

    Only these, since WordNet's other words include slang, Latin, things that no picture shows, and insults.

    Args:
        synset: id of the class; empty: no sub-kinds.
        others: synset ids of all classes; what lies below them is left out.
    """
    if not synset:
        return []
    hyponyms = wordnet.hyponyms(synset)
    taken = {below.id for item in hyponyms if item.id in others for below in (item, *wordnet.hyponyms(item.id))}
    usable = [item for item in hyponyms if item.id in _imagenet_synsets() and item.id not in taken]
    count = min(MAX_SUBKINDS, len(usable))
    # Evenly over the list, which is breadth first: the first eight dogs have no terrier among them
    return [_subkind(usable[i * len(usable) // count], synset) for i in range(count)]


@cache
def _imagenet_synsets() -> frozenset[str]:
    return frozenset(item.synset for item in load_classes("imagenet-1k"))


def _subkind(item: wordnet.Synset, synset: str) -> str:
    """A sub-kind with its article, and with what it is a kind of unless the name says so.

    "a boxer, a kind of dog" but "a grand piano": many names of sub-kinds have other meanings.
    """
    general = wordnet.find_synset(synset).lemmas[0]
    name = with_article(item.lemmas[0])
    return name if f" {general.lower()} " in f" {item.lemmas[0].lower()} " else f"{name}, a kind of {general}"


@lru_cache(maxsize=65536)
def goes_with(content: str, phrase: str) -> bool:
    """Whether a content may stand in a style's phrase: it says nothing that the phrase says too, or says otherwise."""
    return not any(attribute.search(content) and attribute.search(phrase) for attribute in ATTRIBUTES)


def without_near_duplicates(phrases: Sequence[str]) -> list[str]:
    """The phrases without those whose words an earlier one has, disregarding order, articles and small prepositions."""
    kept: dict[frozenset[str], str] = {}
    for phrase in phrases:
        words = re.findall(r"\{s?\}|\w+", phrase.lower())
        kept.setdefault(frozenset(words) - {"a", "an", "the", "of", "in", "on", "with", "and"}, phrase)
    return list(kept.values())
