"""Style diversification: how a thing is drawn. The first style of a bank is the teacher's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """A style's name, the prompt it makes of a subject (``{}``), and its share of the images."""

    name: str
    phrase: str
    weight: float


# The words that the embedded generator was trained with.
ICON_STYLES = (
    ("filled", "a solid icon of a {}"),
    ("icon", "an icon of a {}"),
    ("outline", "an outline icon of a {}"),
    ("duotone", "a duotone icon of a {}"),
    ("emoji", "a color emoji icon of a {}"),
    ("color", "a flat color icon of a {}"),
)


def style_bank(id_share: float) -> list[Style]:
    """Styles with weights that add up to 1: ``id_share`` for the teacher's own, the rest spread evenly."""
    others = (1.0 - id_share) / (len(ICON_STYLES) - 1)
    return [Style(name, phrase, others if i else id_share) for i, (name, phrase) in enumerate(ICON_STYLES)]
