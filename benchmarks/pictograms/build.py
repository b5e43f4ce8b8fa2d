"""Build Pictograms: download, render, assign roles and classes, remove near-duplicates, pack.

Usage: python -m benchmarks.pictograms.build [--cache DIR]

It writes the packed test and teacher images, the class list and the attribution into ``src/prismkd/assets/pictograms``,
and the generator's training images and contact sheets into the cache. A second run with the same archive writes the
same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.pictograms.classes import CLASSES, class_of
from benchmarks.pictograms.source import Icon, SourceError, download_archive, icons_of, read_sets

SIZE = 32
SHEET_COLUMNS = 24
ASSETS = Path(__file__).parents[2] / "src/prismkd/assets/pictograms"
CACHE = Path(__file__).parent / ".cache"
MAX_SIMILARITY = 0.97  # correlation of 16 x 16 thumbnails above which two icons are one drawing
DOMAIN_OF_STYLE = {"filled": "id", "outline": "outline", "duotone": "duotone", "emoji": "color", "color": "color",
                   "pixel": "pixel", "hand-drawn": "sketch"}  # fmt: skip
MIN_FAMILIES_PER_WORD = 4  # a word of an icon's name that fewer generator families use is jargon of its set


class LabeledIcon(NamedTuple):
    """An icon by its position among all icons, its class, and the domain of its style."""

    position: int
    label: int
    domain: str


def render(svg: str) -> np.ndarray | None:
    """The icon as a (32, 32) uint8 gray image on white, or None when there is nothing to see."""
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, background="white")
    except ValueError:
        return None
    image = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("L"))
    blank = image.shape != (SIZE, SIZE) or image.min() > 160 or image.mean() < 5
    return None if blank else image


def thumbnails(images: np.ndarray) -> np.ndarray:
    """(n, 32, 32) uint8 -> (n, 256) float32 thumbnails, centered and of unit length."""
    small = images.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(len(images), -1).astype(np.float32)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def max_similarity(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``images`` the correlation with its most similar one of ``others``."""
    references = thumbnails(others)
    chunks = np.array_split(thumbnails(images), max(1, len(images) // 2048))
    return np.concatenate([(chunk @ references.T).max(axis=1) for chunk in chunks])


def first_of_each_drawing(images: np.ndarray) -> np.ndarray:
    """A mask that keeps the first of every group of near-identical images."""
    vectors = thumbnails(images)
    keep = np.ones(len(images), dtype=bool)
    for index in range(1, len(images)):
        earlier = vectors[:index][keep[:index]]
        keep[index] = (earlier @ vectors[index]).max(initial=-1) < MAX_SIMILARITY
    return keep


def png_bytes(image: np.ndarray) -> bytes:
    """A gray image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def labeled(icons: list[Icon], role: str) -> list[LabeledIcon]:
    """The icons of ``role`` that belong to a class and have a known style; the teacher's are filled ones only."""
    found = []
    for position, icon in enumerate(icons):
        label = class_of(icon.thing) if icon.role.role == role else None
        domain = DOMAIN_OF_STYLE.get(icon.style or "")
        if label is not None and domain is not None and (role == "test" or domain == "id"):
            found.append(LabeledIcon(position, label, domain))
    return found


def without_repeats(icons: list[LabeledIcon], images: np.ndarray) -> list[LabeledIcon]:
    """Keep one of each near-identical group within every class and domain."""
    kept = []
    for key in sorted({(icon.label, icon.domain) for icon in icons}):
        group = [icon for icon in icons if (icon.label, icon.domain) == key]
        is_first = first_of_each_drawing(images_of(group, images))
        kept += [icon for icon, keep in zip(group, is_first, strict=True) if keep]
    return kept


def images_of(icons: list[LabeledIcon], images: np.ndarray) -> np.ndarray:
    """Their images (n, 32, 32), out of those of all icons."""
    return images[[icon.position for icon in icons]]


def generator_rows(icons: list[Icon], images: np.ndarray, evaluation: np.ndarray) -> list[int]:
    """Positions of the generator's training icons: common words, at most three, no drawing of the evaluation side."""
    families_of_word: dict[str, set[str]] = {}
    candidates = [p for p, icon in enumerate(icons) if icon.role.role == "generator"]
    for position in candidates:
        for word in icons[position].thing.split():
            families_of_word.setdefault(word, set()).add(icons[position].role.family)
    common = {word for word, families in families_of_word.items() if len(families) >= MIN_FAMILIES_PER_WORD}
    named = [p for p in candidates if len(w := icons[p].thing.split()) <= 3 and common.issuperset(w)]
    similar = max_similarity(images[named], evaluation)
    return [p for p, similarity in zip(named, similar, strict=True) if similarity < MAX_SIMILARITY]


def write_table(path: Path, icons: list[Icon], images: np.ndarray, rows: list[LabeledIcon]) -> None:
    """Pack labeled images as parquet, PNG inside, in a fixed order."""
    table = pa.table(
        {
            "image": pa.array([png_bytes(images[p]) for p, _, _ in rows], pa.binary()),
            "label": pa.array([label for _, label, _ in rows], pa.int16()),
            "domain": [domain for _, _, domain in rows],
            "icon": [f"{icons[p].prefix}:{icons[p].name}" for p, _, _ in rows],
            "family": [icons[p].role.family for p, _, _ in rows],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def write_generator_set(path: Path, icons: list[Icon], images: np.ndarray, positions: list[int]) -> None:
    """Store the generator's training images and what their captions are made of."""
    labels = [class_of(icons[p].thing) for p in positions]
    np.savez(
        path,
        images=images[positions],
        things=np.array([icons[p].thing for p in positions]),
        styles=np.array([icons[p].style or "" for p in positions]),
        categories=np.array([icons[p].category or "" for p in positions]),
        prefixes=np.array([icons[p].prefix for p in positions]),
        labels=np.array([-1 if label is None else label for label in labels], dtype=np.int16),
    )


def write_attribution(path: Path, infos: dict[str, dict], used_for: dict[str, set[str]]) -> None:
    """List every set that went into images or weights, from the sets' own license records."""
    lines = ["# Attribution", "", "Pictograms is made from these open-licensed icon sets, collected by Iconify.", "",
             "| set | author | license | used for |", "|---|---|---|---|"]  # fmt: skip
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


def contact_sheet(images: np.ndarray) -> Image.Image:
    """Images side by side on one sheet."""
    count = -(-len(images) // SHEET_COLUMNS) * SHEET_COLUMNS
    padded = np.full((count, SIZE + 2, SIZE + 2), 200, np.uint8)
    padded[: len(images), 1:-1, 1:-1] = images
    rows = padded.reshape(-1, SHEET_COLUMNS, SIZE + 2, SIZE + 2).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(-1, SHEET_COLUMNS * (SIZE + 2)))


def read_icons(cache: Path) -> tuple[dict[str, dict], list[Icon], np.ndarray]:
    """The sets' records by prefix, their icons that show something, and the images of these (n, 32, 32)."""
    infos: dict[str, dict] = {}
    icons: list[Icon] = []
    for prefix, info, icon_set in read_sets(download_archive(cache)):
        infos[prefix] = info
        icons += icons_of(prefix, info, icon_set)
    with ProcessPoolExecutor() as pool:
        rendered = list(pool.map(render, [icon.svg for icon in icons], chunksize=512))
    icons = [icon for icon, image in zip(icons, rendered, strict=True) if image is not None]
    return infos, icons, np.stack([image for image in rendered if image is not None])


def build(cache: Path) -> None:
    """Run every step and print what came out."""
    infos, icons, images = read_icons(cache)
    # No drawing may be on two sides: the teacher's lack what is in the test, and the generator's what is in either.
    test = without_repeats(labeled(icons, "test"), images)
    test_images = images_of(test, images)
    teacher = labeled(icons, "teacher")
    similar = max_similarity(images_of(teacher, images), test_images)
    teacher = [icon for icon, similarity in zip(teacher, similar, strict=True) if similarity < MAX_SIMILARITY]
    generator = generator_rows(icons, images, np.concatenate([test_images, images_of(teacher, images)]))

    write_table(ASSETS / "test.parquet", icons, images, test)
    write_table(ASSETS / "real.parquet", icons, images, teacher)
    write_classes(ASSETS / "classes.json")
    write_generator_set(cache / "generator.npz", icons, images, generator)
    uses = {"test images": [icon.position for icon in test],
            "teacher training images": [icon.position for icon in teacher],
            "generator weights": generator}  # fmt: skip
    used_for: dict[str, set[str]] = {}
    for use, positions in uses.items():
        for position in positions:
            used_for.setdefault(icons[position].prefix, set()).add(use)
    write_attribution(ASSETS / "ATTRIBUTION.md", infos, used_for)
    write_sheets(cache / "sheets", images, {"real": teacher, "test": test})
    families = {use: len({icons[p].role.family for p in positions}) for use, positions in uses.items()}
    print(json.dumps({"icons": len(icons), "generator": len(generator), "families": families}))
    print_counts(test, teacher)


def write_sheets(folder: Path, images: np.ndarray, roles: dict[str, list[LabeledIcon]]) -> None:
    """A contact sheet per class and role, on which wrong labels are found by eye."""
    folder.mkdir(exist_ok=True)
    for label, rule in enumerate(CLASSES):
        for role, icons in roles.items():
            of_class = [icon for icon in icons if icon.label == label]
            contact_sheet(images_of(of_class, images)).save(folder / f"{rule.name}-{role}.png")


def print_counts(test: list[LabeledIcon], teacher: list[LabeledIcon]) -> None:
    """The numbers of images per class, and per domain of the test."""
    for label, rule in enumerate(CLASSES):
        domains = [icon.domain for icon in test if icon.label == label]
        counts = {domain: domains.count(domain) for domain in sorted(set(DOMAIN_OF_STYLE.values()))}
        print(f"{rule.name:10s} real {sum(icon.label == label for icon in teacher):4d}  test {counts}")


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
