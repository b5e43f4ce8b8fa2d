"""Content diversification: what varies inside a class. A content is a phrase with ``{}`` for the class in its sense,
or ``{s}`` for its plural."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from functools import cache

from prismkd.classes import wordnet
from prismkd.classes.lists import load_classes
from prismkd.prompts.grammar import DETERMINED, head_noun, with_article
from prismkd.prompts.senses import Sense
from prismkd.prompts.styles import ICON_DOMAINS

MAX_SUBKINDS = 8
PLAIN = "a {}"

# An icon can show little more than the thing; its plain form comes often, since it is what most icons show.
ICON_CONTENTS = ("a {}", "a simple {}", "a {}", "a small {}", "a {} with details", "a {}", "a big {}", "a modern {}")
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
        "a {}", "a person wearing a {}", "a folded {}", "a {} on a hanger", "a colorful {}", "a worn {}",
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
    "thing": (  # of unknown kind
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
    """The contents of one class, the plain form first.

    Args:
        domain: the teacher's own style domain; icons have a grammar of their own.
        sense: its WordNet id gives sub-kinds and the right grammar, and a language model's contents take the latter's
            place.
        others: synsets of the other classes, whose sub-kinds are none of this one.
    """
    if domain.partition(":")[0].strip() in ICON_DOMAINS and not sense.contents:
        return list(ICON_CONTENTS)
    varied: Sequence[str] = sense.contents or KIND_CONTENTS[kind_of(sense)]
    if DETERMINED.match(sense.text):  # there is one Eiffel Tower
        varied = [content for content in varied if PLAIN in content]
    return without_near_duplicates([PLAIN, *varied, *subkinds(sense.synset, others)])


def kind_of(sense: Sense) -> str:
    """The kind of thing: the synset's, else that of all senses of the name, or of the definition's noun, or unknown."""
    if sense.synset:
        return wordnet.kind(sense.synset)
    kinds = set() if sense.unlisted else {wordnet.kind(item.id) for item in wordnet.senses_of(sense.class_name)}
    if len(kinds) != 1 and sense.wording.source == "definition":
        kinds = {wordnet.kind(item.id) for item in wordnet.senses_of(head_noun(sense.text))[:1]}
    return kinds.pop() if len(kinds) == 1 else "thing"


def subkinds(synset: str, others: Container[str]) -> list[str]:
    """Names of what lies below a synset, evenly from all over it, and only what is a class of ImageNet-1k.

    WordNet's other words include slang, Latin, things that no picture shows, and insults.
    """
    if not synset:
        return []
    every = wordnet.hyponyms(synset)
    taken = {below.id for item in every if item.id in others for below in (item, *wordnet.hyponyms(item.id))}
    below = [item for item in every if item.id in _usual() and item.id not in taken]
    count = min(MAX_SUBKINDS, len(below))
    return [_subkind(below[i * len(below) // count], synset) for i in range(count)]


@cache
def _usual() -> frozenset[str]:
    return frozenset(item.synset for item in load_classes("imagenet-1k"))


def _subkind(item: wordnet.Synset, synset: str) -> str:
    """The sub-kind's name, and of what it is a kind, since names are ambiguous: a boxer, a kind of dog."""
    general = wordnet.find_synset(synset).lemmas[0]
    name = with_article(item.lemmas[0])
    return name if f" {general.lower()} " in f" {item.lemmas[0].lower()} " else f"{name}, a kind of {general}"


def without_near_duplicates(phrases: Sequence[str]) -> list[str]:
    """The phrases whose words aren't those of an earlier one, articles and order aside."""
    kept: dict[frozenset[str], str] = {}
    for phrase in phrases:
        words = re.findall(r"\{s?\}|\w+", phrase.lower())
        kept.setdefault(frozenset(words) - {"a", "an", "the", "of", "in", "on", "with", "and"}, phrase)
    return list(kept.values())
