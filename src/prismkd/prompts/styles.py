"""Style diversification: how a thing is drawn.

A domain is a way of drawing by which test sets are known (photo, sketch, art). It has one or more styles, which are
phrases. The first domain of a bank is the teacher's own, in-distribution one; its share of the images is the knob
between accuracy on the teacher's own domain and on others.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from prismkd.errors import UserError

# Phrases by domain; "{}" is the subject with its article. The icon domains have the words that the embedded generator
# was trained with; the others are the domains of ImageNet, PACS and DomainNet. No phrase asks for a bad picture ("a
# blurry photo of"), as CLIP's templates for classifying do: it would be drawn.
DOMAINS: dict[str, tuple[str, ...]] = {
    "filled": ("a solid icon of {}",),
    "icon": ("an icon of {}",),
    "outline": ("an outline icon of {}",),
    "duotone": ("a duotone icon of {}",),
    "emoji": ("a color emoji icon of {}",),
    "color": ("a flat color icon of {}",),
    "pixel": ("a pixel art icon of {}",),
    "hand-drawn": ("a hand-drawn icon of {}",),
    # "Solid", since most of the generator's icons in two colors are outlines and the teacher's are filled. Half of the
    # phrases are dark on light, as the teacher's icons are. The pairs have the contrast of those in its captions.
    "recolored": (
        "a white solid icon of {} on a red background",
        "a white solid icon of {} on a purple background",
        "a white solid icon of {} on a brown background",
        "a teal solid icon of {} on a black background",
        "a white solid icon of {} on a teal background",
        "a pink solid icon of {} on a white background",
        "a black solid icon of {} on a teal background",
        "a black solid icon of {} on a green background",
        "a yellow solid icon of {} on a brown background",
        "a black solid icon of {} on an orange background",
        "a gray solid icon of {} on a white background",
        "a purple solid icon of {} on a white background",
    ),
    "photo": (
        "a photo of {}",
        "a close-up photo of {}",
        "a wide-angle photo of {}",
        "a smartphone snapshot of {}",
        "a photo of {} in bright daylight",
        "a photo of {} at dusk",
        "a photo of {} with flash at night",
        "a photo of {} with a blurred background",
        "a black and white photo of {}",
    ),
    "art": (
        "an oil painting of {}",
        "a watercolor painting of {}",
        "an impressionist painting of {}",
        "an ink wash painting of {}",
        "a woodblock print of {}",
        "a pastel drawing of {}",
        "a sculpture of {}",
    ),
    "sketch": (
        "a pencil sketch of {}",
        "a charcoal drawing of {}",
        "a pen and ink drawing of {}",
        "a line drawing of {} on white paper",
    ),
    "cartoon": (
        "a cartoon of {}",
        "a comic book panel with {}",
        "a children's book illustration of {}",
        "a flat animation still of {}",
    ),
    "clip-art": ("clip art of {}", "a flat vector illustration of {}", "a sticker of {}"),
    "quickdraw": ("a quick doodle of {} in a few black strokes on white", "a child's simple line doodle of {}"),
    "infographic": ("an infographic about {}", "a labeled diagram of {}"),
}
ICON_DOMAINS = ("filled", "icon", "outline", "duotone", "emoji", "color", "pixel", "hand-drawn", "recolored")
PHOTO_DOMAINS = ("photo", "art", "sketch", "cartoon", "clip-art", "quickdraw", "infographic")


@dataclass(frozen=True)
class Style:
    """A way of drawing. A plan's hash is over these fields.

    Attributes:
        name: unique in its bank: the domain's, with a number from the second style of the domain on.
        domain: that it belongs to.
        phrase: a prompt with ``{}`` for the subject and its article.
        weight: its share of the images.
    """

    name: str
    domain: str
    phrase: str
    weight: float


def style_bank(domains: Sequence[str], id_share: float) -> list[Style]:
    """The styles of some domains, with weights that add up to 1.

    Args:
        domains: names of ``DOMAINS``, or of the form "name: a phrase with {}"; the first is the teacher's own.
        id_share: share of the first domain, in [0, 1]. The other domains have equal parts of the rest, and so have the
            styles within a domain.

    Raises:
        UserError: an unknown domain, one twice, or a phrase without ``{}``.
    """
    phrases = dict(map(_domain, domains))
    if not domains or len(phrases) < len(domains):
        raise UserError(f"expected prompts.domains, each name once, got {list(domains)}; give each another name")
    rest = (1.0 - id_share) / max(len(phrases) - 1, 1)
    bank = []
    for place, (domain, domain_phrases) in enumerate(phrases.items()):
        share = 1.0 if len(phrases) == 1 else rest if place else id_share
        names = [domain, *[f"{domain} {number}" for number in range(2, len(domain_phrases) + 1)]]
        bank += [Style(name, domain, phrase, share / len(domain_phrases))
                 for name, phrase in zip(names, domain_phrases, strict=True)]  # fmt: skip
    return bank


def own_styles(domains: Sequence[str]) -> frozenset[str]:
    """The names of the styles of the teacher's own domain, the first."""
    return frozenset(style.name for style in style_bank(domains[:1], 1.0))


def probe_phrase(domains: Sequence[str]) -> str:
    """The first style of the teacher's own domain, in which probes are drawn: the teacher judges what it knows."""
    return style_bank(domains, 1.0)[0].phrase


def _domain(text: str) -> tuple[str, tuple[str, ...]]:
    """The name and phrases of an entry of ``prompts.domains``: a known domain, or the user's own one of one phrase."""
    name, colon, phrase = text.partition(":")
    if not colon:
        return text, DOMAINS[known_domain(text)]
    if phrase.count("{}") != 1 or not name.strip():
        raise UserError(
            f'expected "name: a phrase with {{}}" in prompts.domains, got {text!r}; say where the class goes'
        )
    return name.strip(), (re.sub(r"\ban? \{\}", "{}", phrase.strip()),)  # the subject brings its article


def known_domain(name: str) -> str:
    """``name``, if it is one of ``DOMAINS``.

    Raises:
        UserError: it isn't; the error offers the nearest.
    """
    if name not in DOMAINS:
        near = difflib.get_close_matches(name, DOMAINS, n=1, cutoff=0.4)
        hint = f"perhaps {near[0]}" if near else f'use {", ".join(DOMAINS)}, or "name: a phrase with {{}}"'
        raise UserError(f"expected a style domain (prompts.domains), got {name!r}; {hint}")
    return name


def class_weights(bank: Sequence[Style], allowed: Sequence[str], class_name: str) -> tuple[float, ...]:
    """The weights of a bank's styles for one class; they add up to 1.

    Args:
        bank: of all styles.
        allowed: the domains that suit the class; empty: all.
        class_name: for the error.

    Raises:
        UserError: an unknown domain, or a bank with none of the allowed ones.
    """
    # A domain that exists but isn't configured for this run is no mistake: class lists serve many runs
    for name in allowed:
        if name not in {style.domain for style in bank}:
            known_domain(name)
    weights = [style.weight if not allowed or style.domain in allowed else 0.0 for style in bank]
    if not sum(weights) > 0:
        available = ", ".join(dict.fromkeys(style.domain for style in bank if style.weight > 0))
        raise UserError(
            f"expected styles of the class {class_name!r} among {available}, got {', '.join(allowed)}; "
            "add one to prompts.domains or correct the class list"
        )
    return tuple(weight / sum(weights) for weight in weights)
