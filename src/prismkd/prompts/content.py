"""Content diversification: what varies inside a class, as a grammar of attributes that keep the thing."""

from __future__ import annotations

# "{}" is the class in its sense. The plain form comes often, since it is what most pictures show.
ATTRIBUTES = ("{}", "simple {}", "{}", "small {}", "{} with details", "{}", "big {}", "modern {}")


def contents(attributes: tuple[str, ...] = ATTRIBUTES) -> list[str]:
    """The attribute templates of every class, in the order in which they are used."""
    return list(attributes)
