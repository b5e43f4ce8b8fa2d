"""The style bank."""

import re

import numpy as np
import pytest

from benchmarks.pictograms.denoiser import STYLE_NAMES
from benchmarks.pictograms.pictures import named_colors
from prismkd.errors import UserError
from prismkd.prompts.styles import DOMAINS, ICON_DOMAINS, PHOTO_DOMAINS, style_bank


@pytest.mark.parametrize("domains", [ICON_DOMAINS, PHOTO_DOMAINS, ("photo",), ("art", "x-ray: an x-ray of {}")])
def test_weights_add_up_and_the_first_domain_has_its_share(domains: tuple[str, ...]) -> None:
    bank = style_bank(domains, 0.4)
    assert sum(style.weight for style in bank) == pytest.approx(1)
    own = sum(style.weight for style in bank if style.domain == domains[0])
    assert own == pytest.approx(0.4 if len(domains) > 1 else 1)
    assert len({style.name for style in bank}) == len(bank)


def test_every_phrase_has_one_place_for_the_class() -> None:
    assert all(phrase.count("{}") == 1 for phrases in DOMAINS.values() for phrase in phrases)
    assert len({phrase for phrases in DOMAINS.values() for phrase in phrases}) == sum(map(len, DOMAINS.values()))


def test_every_style_of_the_generators_captions_is_drawn() -> None:
    """The bank is what the generator knows by name: chosen by no image."""
    for style, names in STYLE_NAMES.items():
        assert style in ICON_DOMAINS
        assert any(name in phrase for name in names for phrase in DOMAINS[style])


def test_recolored_icons_have_color_pairs_of_the_generators_captions() -> None:
    """The first dozen that the rule of the captions gives: chosen by no image."""
    pairs = [re.fullmatch(r"an? (\w+) solid icon of {} on an? (\w+) background", p) for p in DOMAINS["recolored"]]
    rng = np.random.default_rng(0)
    expected: dict[tuple[str, str], None] = {}
    while len(expected) < len(pairs):
        expected.setdefault(named_colors(rng))
    assert [pair and pair.groups() for pair in pairs] == list(expected)


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (("foto",), "got 'foto'; perhaps photo"),
        (("photo", "photo"), "each name once"),
        (("x-ray: an x-ray",), "say where the class goes"),
        ((), "each name once"),
    ],
)
def test_bad_domains_are_refused(domains: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        style_bank(domains, 0.5)
