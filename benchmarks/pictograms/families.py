"""Which icon set belongs to which design house (family), and which role the family plays.

A family has exactly one role, because sets of one house repeat each other's drawings:

- ``generator``: trains the text-to-image model. Every set that no other rule names.
- ``teacher``: its filled icons train the teacher and the real-data student.
- ``test``: held out; filled icons are the ID test, the other styles are the shifted domains.
- ``reserved``: never rendered, never read; kept for later outside checks.
- ``excluded``: license (NC, GPL, SA), subject (logos, programming, flags), or motion, whose first frame may be empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RESERVED = {
    "game-icons", "openmoji", "iconoir", "clarity", "ion", "famicons", "majesticons", "healthicons",
}  # fmt: skip

# family -> its sets
TEACHER: dict[str, list[str]] = {
    "material": ["ic", "mdi", "mdi-light", "material-symbols", "material-symbols-light", "zmdi", "memory"],
    "boxicons": ["bx", "bxs", "bxl", "boxicons"],
    "remix": ["ri"],
    "bootstrap": ["bi"],
    "framework7": ["f7"],
    "webhostinghub": ["whh"],
    "vaadin": ["vaadin"],
    "fontisto": ["fontisto"],
    "raphael": ["raphael"],
    "foundation": ["foundation"],
    "jam": ["jam"],
    "map-makers": ["maki", "temaki", "pinhead", "osmic", "map", "roentgen"],
    "icons8": ["la", "wpf", "icons8", "flat-color-icons"],
    "mynaui": ["mynaui", "vadivam"],
    "keyline": ["keyline-icons"],
    "griddy": ["griddy-icons"],
    "elusive": ["el"],
    "zondicons": ["zondicons"],
    "subway": ["subway"],
    "basil": ["basil"],
    "teenyicons": ["teenyicons"],
    "flowbite": ["flowbite"],
    "eva": ["eva"],
    "tabler": ["tabler"],
    "stash": ["stash"],
    "mage": ["mage"],
    "lets-icons": ["lets-icons"],
    "ant-design": ["ant-design"],
    "ix": ["ix"],
    "garden": ["garden"],
    "akar-icons": ["akar-icons"],
}  # fmt: skip

TEST: dict[str, list[str]] = {
    "font-awesome": ["fa", "fa-solid", "fa-regular", "fa-brands", "fa6-solid", "fa6-regular", "fa6-brands",
                     "fa7-solid", "fa7-regular", "fa7-brands"],
    "phosphor": ["ph"],
    "mingcute": ["mingcute"],
    "iconamoon": ["iconamoon"],
    "heroicons": ["heroicons", "heroicons-outline", "heroicons-solid", "sidekickicons"],
    "streamline": ["streamline", "streamline-block", "streamline-color", "streamline-cyber", "streamline-cyber-color",
                   "streamline-emojis", "streamline-flex", "streamline-flex-color", "streamline-freehand",
                   "streamline-freehand-color", "streamline-guidance", "guidance", "streamline-kameleon-color",
                   "streamline-logos", "streamline-pixel", "streamline-plump", "streamline-plump-color",
                   "streamline-sharp", "streamline-sharp-color", "streamline-stickies-color", "streamline-ultimate",
                   "streamline-ultimate-color", "covid"],
    "twemoji": ["twemoji"],
    "noto": ["noto", "noto-v1"],
    "hackernoon": ["pixel"],
    "unicons": ["uil", "uim", "uis", "uit"],
    "solar": ["solar"],
    "pepicons": ["pepicons", "pepicons-pencil", "pepicons-pop", "pepicons-print"],
    "pixelarticons": ["pixelarticons"],
    "reicon": ["reicon"],
    "glyphs": ["glyphs", "glyphs-poly"],
    "tdesign": ["tdesign"],
    "lsicon": ["lsicon"],
}  # fmt: skip

# Sets of one house within the generator's share; a set that stands nowhere is its own family.
GENERATOR: dict[str, list[str]] = {
    "fluent": ["fluent", "fluent-color", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "fluent-mdl2"],
    "emojione": ["emojione", "emojione-monotone"],
    "icon-park": ["icon-park", "icon-park-outline", "icon-park-solid", "icon-park-twotone"],
    "lucide": ["lucide", "lucide-lab", "feather"],
    "mono": ["mi", "mono-icons"],
}  # fmt: skip

EXCLUDED_LICENSE = re.compile(r"NC|GPL|SA", re.IGNORECASE)
ANIMATED = {"line-md", "svg-spinners"}
EXCLUDED_CATEGORIES = {"Logos", "Programming", "Flags / Maps"}


@dataclass(frozen=True)
class Role:
    """What an icon set is used for: its role, and the family it shares that role with."""

    role: str
    family: str


def role_of(prefix: str, info: dict) -> Role:
    """The role of icon set ``prefix``; ``info`` is its record in Iconify's ``collections.json``."""
    if prefix in RESERVED:
        return Role("reserved", prefix)
    license_id = info.get("license", {}).get("spdx") or info.get("license", {}).get("title", "unknown")
    if EXCLUDED_LICENSE.search(license_id) or prefix in ANIMATED:
        return Role("excluded", prefix)
    # Before the category: the map makers' sets are filed under "Flags / Maps", but they draw things.
    for role, families in (("teacher", TEACHER), ("test", TEST), ("generator", GENERATOR)):
        for family, prefixes in families.items():
            if prefix in prefixes:
                return Role(role, family)
    if info.get("category") in EXCLUDED_CATEGORIES:
        return Role("excluded", prefix)
    return Role("generator", prefix)


# The style of a set's icons that carry no style word; sets that are missing here have no known default.
DEFAULT_STYLE: dict[str, str] = {
    # teacher
    "ic": "filled", "mdi": "filled", "material-symbols": "filled", "material-symbols-light": "filled", "zmdi": "filled",
    "mdi-light": "outline", "memory": "pixel", "bx": "outline", "bxs": "filled",
    "boxicons": "outline", "whh": "filled", "vaadin": "filled", "fontisto": "filled", "raphael": "filled",
    "foundation": "filled", "jam": "outline", "maki": "filled", "temaki": "filled", "pinhead": "filled",
    "osmic": "filled", "map": "filled", "roentgen": "filled", "la": "outline", "wpf": "filled", "icons8": "outline",
    "flat-color-icons": "color", "mynaui": "outline", "vadivam": "outline", "keyline-icons": "outline",
    "griddy-icons": "outline", "el": "filled", "zondicons": "filled", "subway": "filled", "bi": "outline",
    "f7": "outline",
    # test
    "fa": "filled", "fa-solid": "filled", "fa6-solid": "filled", "fa7-solid": "filled", "fa-regular": "outline",
    "fa6-regular": "outline", "fa7-regular": "outline", "ph": "outline", "iconamoon": "outline",
    "heroicons": "outline", "heroicons-outline": "outline", "heroicons-solid": "filled", "sidekickicons": "outline",
    "streamline": "outline", "streamline-block": "filled", "streamline-color": "duotone", "streamline-cyber": "outline",
    "streamline-flex": "outline", "streamline-flex-color": "duotone", "streamline-freehand": "hand-drawn",
    "streamline-freehand-color": "hand-drawn", "streamline-pixel": "pixel", "streamline-plump": "outline",
    "streamline-plump-color": "duotone", "streamline-sharp": "outline", "streamline-sharp-color": "duotone",
    "streamline-ultimate": "outline", "streamline-ultimate-color": "color", "streamline-kameleon-color": "color",
    "streamline-emojis": "emoji", "streamline-cyber-color": "color", "streamline-stickies-color": "color",
    "guidance": "filled", "lsicon": "outline", "glyphs": "outline", "glyphs-poly": "color", "picon": "pixel",
    "reicon": "outline", "tdesign": "outline", "pepicons": "hand-drawn", "pepicons-pencil": "hand-drawn",
    "pepicons-pop": "hand-drawn", "pepicons-print": "hand-drawn", "pixelarticons": "pixel", "solar": "outline",
    "twemoji": "emoji", "noto": "emoji", "noto-v1": "emoji", "pixel": "pixel", "uil": "outline", "uis": "filled",
    "uim": "duotone", "uit": "outline",
    # generator
    "fluent-color": "color", "fluent-emoji": "emoji", "fluent-emoji-flat": "emoji",
    "fluent-emoji-high-contrast": "filled", "emojione": "emoji", "emojione-monotone": "outline", "fxemoji": "emoji",
    "icon-park": "duotone", "icon-park-outline": "outline", "icon-park-solid": "filled", "icon-park-twotone": "duotone",
    "lucide": "outline", "lucide-lab": "outline", "feather": "outline", "dinkie-icons": "pixel", "tabler": "outline", "hugeicons": "outline",
    "carbon": "outline", "akar-icons": "outline", "circum": "outline", "duo-icons": "duotone",
    "ep": "outline", "marketeq": "color", "flat-ui": "color", "proicons": "outline",
    "meteor-icons": "outline", "gg": "outline", "grommet-icons": "outline", "cil": "outline", "ci": "outline",
    "system-uicons": "outline", "simple-line-icons": "outline", "meteocons": "outline",
    "sargam": "outline", "lets-icons": "outline", "mage": "outline", "at-icons": "outline", "charm": "outline",
    "bytesize": "outline", "humbleicons": "outline", "iconmind": "outline", "lineicons": "outline", "stash": "filled",
}  # fmt: skip

# Words of icon names that say how a thing is drawn, not what it is.
STYLE_WORDS: dict[str, str] = {
    "outline": "outline", "outlined": "outline", "line": "outline", "linear": "outline", "thin": "outline",
    "light": "outline", "regular": "outline", "broken": "outline", "stroke": "outline",
    "duotone": "duotone", "twotone": "duotone", "duo": "duotone", "twoline": "duotone",
    "fill": "filled", "filled": "filled", "solid": "filled", "flat": "color",
}  # fmt: skip
NEUTRAL_WORDS = {
    "baseline", "round", "rounded", "sharp", "bold", "remix", "tone", "two", "color", "icon", "alt", "bulk", "f", "o", "s",
    "1", "2", "3", "4", "01", "02", "03", "04", "5", "6", "8", "10", "12", "14", "16", "18", "20", "24", "28", "32", "48",
    "96", "24px", "px", "variant", "block", "simple", "minimalistic", "one", "squircle",
}  # fmt: skip
# streamline-pixel puts the category in front of the thing: "interface-essential-key".
CATEGORY_WORDS = {
    "pepicons": {"print"},
    "streamline-pixel": set("interface essential building real eastate content files ecology entertainment events"
                            " hobbies food drink business products shopping shipping travel wayfinding weather".split()),
}  # fmt: skip
BOLD_IS_FILLED = {"solar", "glyphs", "streamline-ultimate"}
ONE_STYLE = {"pixel", "hand-drawn"}  # of a whole set: a filled icon of a pixel set is still made of pixels


def split_name(prefix: str, name: str) -> tuple[str, str | None]:
    """Split an icon's name into the words for the thing and the style it is drawn in (None: unknown)."""
    style = DEFAULT_STYLE.get(prefix)
    set_style = style
    words = [re.sub(r"(?<=[a-z]{3})\d+$", "", word) for word in name.split("-")]  # "eraser3"
    if "two" in words and "tone" in words:
        style = "duotone"
    thing = []
    for position, word in enumerate(words):
        last_or_first = position == 0 or position >= len(words) - 3
        if word in STYLE_WORDS and last_or_first and len(words) > 1:
            # "line-duotone" and "bold-duotone" are duotone
            style = "duotone" if style == "duotone" and "duotone" in words[:position] else STYLE_WORDS[word]
        elif (word == "bold" and prefix in BOLD_IS_FILLED) or (word == "f" and prefix == "jam"):
            style = "filled"
        elif word not in NEUTRAL_WORDS and word not in CATEGORY_WORDS.get(prefix, ()):
            thing.append(word)
    if style == "filled" and ("o" in words or "outline" in words):
        style = "outline"
    return " ".join(thing), set_style if set_style in ONE_STYLE else style
