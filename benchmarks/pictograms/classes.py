"""The classes of Pictograms, and the explicit rule that labels an icon by its name.

An icon belongs to a class when its name, without style words, holds one of the class's nouns and every
other word is allowed for that class: "bell ring" is a bell, "bell pepper" is none. A wrong label seen on a
contact sheet is corrected here, in the rule, never by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

# Badges and states that leave the thing itself in the picture.
MODIFIERS = frozenset(
    "off slash plus minus add remove check checkmark x xmark alert exclamation dot disabled cancel dismiss on fast"
    " sparkle sparkles small big large left right up down new".split()
)


@dataclass(frozen=True)
class ClassRule:
    """One class: its name, its meaning, and the words that make an icon one of it."""

    name: str
    definition: str
    polysemous: bool
    nouns: frozenset[str]
    allowed: frozenset[str]

    def matches(self, thing: str) -> bool:
        """Whether an icon named ``thing`` (style words already gone) belongs to this class."""
        words = set(thing.split())
        return bool(words & self.nouns) and words - self.nouns <= self.allowed | MODIFIERS


def _rule(name: str, definition: str, nouns: str, allowed: str = "", *, polysemous: bool = False) -> ClassRule:
    return ClassRule(name, definition, polysemous, frozenset(nouns.split()), frozenset(allowed.split()))


CLASSES = (
    _rule("bell", "a bell, a notification", "bell",
          "ring ringing notification notifications active alarm school alert"),
    _rule("bolt", "a lightning bolt", "bolt lightning thunderbolt lightningbolt",
          "electric electrical thunder flash energy", polysemous=True),
    _rule("book", "an open book", "book", "open closed reading pages page cover text education"),
    _rule("bulb", "a light bulb", "bulb lightbulb", "light idea lamp electric", polysemous=True),
    _rule("bus", "a bus, transport", "bus",
          "school vehicle side front double decker shuttle transit public transport oncoming transportation"
          " directions mini"),
    _rule("camera", "a camera for photos", "camera",
          "photo digital reflex dslr retro photography compact enhance polaroid single lens"),
    _rule("car", "a car, an automobile", "car automobile",
          "vehicle side front sedan sport sports electric compact suv hatchback convertible estate profile"
          " directions racing oncoming taxi"),
    _rule("cart", "a shopping cart", "cart trolley", "shopping shop full empty"),
    _rule("compass", "a compass, a direction", "compass", "navigation explore location",
          polysemous=True),
    _rule("flag", "a flag, a banner", "flag", "banner pennant triangle waving"),
    _rule("gift", "a wrapped gift", "gift present", "box wrapped open holiday"),
    _rule("glasses", "reading glasses",
          "glasses eyeglasses eyeglass sunglasses spectacles", "reading sun eye", polysemous=True),
    _rule("heart", "a heart, a like", "heart", "love favorite health like"),
    _rule("house", "a house, a home", "house home",
          "angle chimney roof family modern page door"),
    _rule("key", "a door key", "key", "door password vpn old skeleton security vertical",
          polysemous=True),
    _rule("moon", "the moon at night", "moon", "crescent night stars star waxing waning"),
    _rule("mouse", "a computer mouse", "mouse",
          "computer device scroll wireless button wheel click middle", polysemous=True),
    _rule("plane", "an airplane", "plane airplane aeroplane airplanemode",
          "flight departure takeoff landing fly travel arrival take land jet tilt mode active", polysemous=True),
    _rule("rocket", "a rocket, a launch", "rocket rocketship", "launch space ship startup takeoff"),
    _rule("star", "a star, a favorite", "star", "half favorite rate rating shooting shine"),
    _rule("tree", "a pine tree", "tree",
          "pine deciduous conifer evergreen nature forest plant christmas needleleaved", polysemous=True),
    _rule("trophy", "a trophy, an award", "trophy", "cup award star winner prize"),
    _rule("umbrella", "an umbrella, weather", "umbrella", "open rain beach weather closed"),
    _rule("watch", "a watch, time", "watch smartwatch wristwatch", "wrist smart time",
          polysemous=True),
)  # fmt: skip


def class_of(thing: str) -> int | None:
    """The index in ``CLASSES`` of an icon named ``thing``, or None when it belongs to no class or to several."""
    matching = [label for label, rule in enumerate(CLASSES) if rule.matches(thing)]
    return matching[0] if len(matching) == 1 else None
