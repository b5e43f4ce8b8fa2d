"""Build Pictograms: download, assign roles and classes, render, remove near-duplicates, pack.

Usage: python -m benchmarks.pictograms.build [--cache DIR]

It writes the packed test and teacher images, the class list and the attribution into ``src/prismkd/assets/pictograms``,
and the generator's training images and contact sheets into the cache. A second run with the same archive writes the
same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.pictograms.classes import CLASSES, class_of
from benchmarks.pictograms.pictures import (
    MAX_SIMILARITY,
    contact_sheet,
    encoded,
    first_of_each_drawing,
    is_gray,
    max_similarity,
    random_colors,
    recolored,
    render,
)
from benchmarks.pictograms.source import Icon, SourceError, download_archive, icons_of, read_sets

ASSETS = Path(__file__).parents[2] / "src/prismkd/assets/pictograms"
CACHE = Path(__file__).parent / ".cache"
DOMAIN_OF_STYLE = {"filled": "id", "outline": "outline", "duotone": "duotone", "emoji": "color", "color": "color",
                   "pixel": "pixel", "hand-drawn": "sketch"}  # fmt: skip
MAX_TEST_ICONS = 24  # per class and domain, so that no class has a say out of proportion
MIN_FAMILIES_PER_WORD = 3  # a word of an icon's name that fewer generator families use is jargon of its set
ATTRIBUTION = """\
Pictograms is made from these open-licensed icon sets, collected by Iconify (`@iconify/json`).

Changes: each icon was drawn at 64 x 64 pixels on a white square, in black where its set leaves the color open. Icons
were selected by their names and labeled. The test domain `recolored` shows test icons in two other colors, and the
weights were trained on such icons, too. The teacher's training images also made the weights of teacher and judge,
and the generator's sets those of the judge.

The sets come without warranties, and their authors endorse neither prismkd nor its use. The permission notices of
the MIT, ISC and BSD licenses are in prismkd's NOTICE."""


class Drawn(NamedTuple):
    """An icon and its image (64, 64, 3) uint8; its class and the domain of its style, where it has them."""

    icon: Icon
    image: np.ndarray
    label: int = -1
    domain: str = ""


def images_of(drawn: list[Drawn]) -> np.ndarray:
    """Their images (n, 64, 64, 3)."""
    return np.stack([item.image for item in drawn])


def labeled(icons: list[Icon], role: str) -> list[tuple[Icon, int, str]]:
    """The icons of ``role`` that belong to a class and have a known style; the teacher's are filled ones only."""
    found = []
    for icon in icons:
        label = class_of(icon.thing) if icon.role.role == role else None
        domain = DOMAIN_OF_STYLE.get(icon.style or "")
        if label is not None and domain is not None and (role == "test" or domain == "id"):
            found.append((icon, label, domain))
    return found


def named(icons: list[Icon]) -> list[Icon]:
    """The generator's icons that are named by at most three words, all of which several design houses use."""
    families_of_word: dict[str, set[str]] = {}
    candidates = [icon for icon in icons if icon.role.role == "generator"]
    for icon in candidates:
        for word in icon.thing.split():
            families_of_word.setdefault(word, set()).add(icon.role.family)
    common = {word for word, families in families_of_word.items() if len(families) >= MIN_FAMILIES_PER_WORD}
    return [icon for icon in candidates if len(words := icon.thing.split()) <= 3 and common.issuperset(words)]


def drawn(pool: ProcessPoolExecutor, chosen: list[tuple[Icon, int, str]]) -> list[Drawn]:
    """The icons that show something, with their images."""
    images = pool.map(render, [icon.svg for icon, _, _ in chosen], chunksize=256)
    return [Drawn(icon, image, label, domain) for (icon, label, domain), image in zip(chosen, images, strict=True)
            if image is not None]  # fmt: skip


def without_repeats(items: list[Drawn], seed: int = 0) -> list[Drawn]:
    """One of each near-identical group within every class and domain; where they are many, some of them."""
    rng = np.random.default_rng(seed)
    kept = []
    for key in sorted({(item.label, item.domain) for item in items}):
        group = [item for item in items if (item.label, item.domain) == key]
        is_first = first_of_each_drawing(images_of(group))
        chosen = rng.permutation(np.flatnonzero(is_first))[:MAX_TEST_ICONS]
        kept += [group[index] for index in sorted(chosen)]
    return kept


def unlike(items: list[Drawn], others: list[Drawn]) -> list[Drawn]:
    """Those of ``items`` that show none of the drawings of ``others``."""
    similar = max_similarity(images_of(items), images_of(others))
    return [item for item, similarity in zip(items, similar, strict=True) if similarity < MAX_SIMILARITY]


def in_random_colors(items: list[Drawn], seed: int = 0) -> list[Drawn]:
    """The gray icons of the in-distribution test once more, in any two colors: the domain ``recolored``."""
    rng = np.random.default_rng(seed)
    return [item._replace(image=recolored(item.image, *random_colors(rng)), domain="recolored")
            for item in items if item.domain == "id" and is_gray(item.image)]  # fmt: skip


def write_table(path: Path, rows: list[Drawn]) -> None:
    """Pack labeled images as parquet, WebP inside, in a fixed order."""
    table = pa.table(
        {
            "image": pa.array([encoded(row.image) for row in rows], pa.binary()),
            "label": pa.array([row.label for row in rows], pa.int16()),
            "domain": [row.domain for row in rows],
            "icon": [f"{row.icon.prefix}:{row.icon.name}" for row in rows],
            "family": [row.icon.role.family for row in rows],
        }
    )
    features = {"label": {"names": [rule.name for rule in CLASSES], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def write_generator_set(path: Path, rows: list[Drawn]) -> None:
    """Store the generator's training images and what their captions are made of."""
    labels = [class_of(row.icon.thing) for row in rows]
    table = pa.table(
        {
            "image": pa.array([encoded(row.image) for row in rows], pa.binary()),
            "thing": [row.icon.thing for row in rows],
            "style": [row.icon.style or "" for row in rows],
            "category": [row.icon.category or "" for row in rows],
            "prefix": [row.icon.prefix for row in rows],
            "label": pa.array([-1 if label is None else label for label in labels], pa.int16()),
        }
    )
    pq.write_table(table, path, compression="zstd")


def write_attribution(path: Path, infos: dict[str, dict], used_for: dict[str, set[str]]) -> None:
    """List every set that went into images or weights, from the sets' own license records."""
    lines = ["# Attribution", "", ATTRIBUTION, "", "| set | author | license | used for |", "|---|---|---|---|"]
    for prefix in sorted(used_for):
        info = infos[prefix]
        author, license_ = info["author"], info["license"]
        author_text = f"[{author['name']}]({author['url']})" if author.get("url") else author["name"]
        spdx = license_.get("spdx") or license_["title"]
        license_text = f"[{spdx}]({license_['url']})" if license_.get("url") else spdx
        lines.append(
            f"| {info['name']} (`{prefix}`) | {author_text} | {license_text} | {', '.join(sorted(used_for[prefix]))} |"
        )
    path.write_text("\n".join(lines) + "\n")


def write_classes(path: Path) -> None:
    """The class list in the format that prismkd reads."""
    rows = [{"name": rule.name, "definition": rule.definition, "polysemous": rule.polysemous} for rule in CLASSES]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def build(cache: Path) -> None:
    """Run every step and print what came out."""
    infos: dict[str, dict] = {}
    icons: list[Icon] = []
    for prefix, info, icon_set in read_sets(download_archive(cache)):
        infos[prefix] = info
        icons += icons_of(prefix, info, icon_set)
    # No drawing may be on two sides: the teacher's lack what is in the test, and the generator's what is in either.
    with ProcessPoolExecutor() as pool:
        test = without_repeats(drawn(pool, labeled(icons, "test")))
        teacher = unlike(drawn(pool, labeled(icons, "teacher")), test)
        generator = unlike(drawn(pool, [(icon, -1, "") for icon in named(icons)]), test + teacher)

    write_table(ASSETS / "test.parquet", test + in_random_colors(test))
    write_table(ASSETS / "real.parquet", teacher)
    write_classes(ASSETS / "classes.json")
    write_generator_set(cache / "generator.parquet", generator)
    uses = {"test images": test, "teacher training images": teacher, "generator weights": generator}
    used_for: dict[str, set[str]] = {}
    for use, rows in uses.items():
        for row in rows:
            used_for.setdefault(row.icon.prefix, set()).add(use)
    write_attribution(ASSETS / "ATTRIBUTION.md", infos, used_for)
    write_sheets(cache / "sheets", {"real": teacher, "test": test})
    families = {use: len({row.icon.role.family for row in rows}) for use, rows in uses.items()}
    print(json.dumps({"icons": len(icons), **{use: len(rows) for use, rows in uses.items()}, "families": families}))
    print_counts(test, teacher)


def write_sheets(folder: Path, roles: dict[str, list[Drawn]]) -> None:
    """A contact sheet per class and role, on which wrong labels are found by eye."""
    folder.mkdir(exist_ok=True)
    for label, rule in enumerate(CLASSES):
        for role, rows in roles.items():
            if of_class := [row for row in rows if row.label == label]:
                contact_sheet(images_of(of_class)).save(folder / f"{rule.name}-{role}.png")


def print_counts(test: list[Drawn], teacher: list[Drawn]) -> None:
    """The numbers of images per class, and per domain of the test."""
    for label, rule in enumerate(CLASSES):
        domains = [row.domain for row in test if row.label == label]
        counts = {domain: domains.count(domain) for domain in sorted(set(DOMAIN_OF_STYLE.values()))}
        print(f"{rule.name:12s} real {sum(row.label == label for row in teacher):4d}  test {counts}")


def main() -> int:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the archive and the generator's images go")
    try:
        build(parser.parse_args().cache)
    except SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
