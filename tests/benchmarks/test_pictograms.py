"""The embedded world: roles are disjoint, reserved sets stay unused, labels follow the rules."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.pictograms.classes import CLASSES, class_of
from benchmarks.pictograms.denoiser import caption
from benchmarks.pictograms.families import GENERATOR, RESERVED, TEACHER, TEST, role_of, split_name
from benchmarks.pictograms.generator_set import GeneratorSet
from benchmarks.pictograms.pictures import (
    COLORS,
    MIN_CONTRAST,
    contrast,
    decoded,
    encoded,
    first_of_each_drawing,
    is_gray,
    named_colors,
    random_colors,
    recolored,
)
from benchmarks.pictograms.source import VERSION, SourceError, download_archive
from prismkd.assets import asset
from prismkd.classes import load_classes

FREE = {"license": {"spdx": "MIT"}, "category": "UI 24px"}


def test_every_set_has_one_role() -> None:
    named = [prefix for table in (TEACHER, TEST, GENERATOR) for sets in table.values() for prefix in sets]
    assert [prefix for prefix, count in Counter(named).items() if count > 1] == []
    assert RESERVED.isdisjoint(named)
    assert not TEACHER.keys() & TEST.keys()


@pytest.mark.parametrize("license_id", ["CC-BY-NC-4.0", "GPL-2.0-only", "CC-BY-SA-4.0"])
def test_licenses_that_bind_are_excluded(license_id: str) -> None:
    assert role_of("anything", {"license": {"spdx": license_id}, "category": "UI 24px"}).role == "excluded"
    assert role_of("anything", FREE).role == "generator"


def test_reserved_sets_are_nowhere_in_what_is_shipped() -> None:
    attribution = asset("ATTRIBUTION.md").read_text()
    icons = [icon for name in ("test", "real") for icon in pq.read_table(asset(f"{name}.parquet"))["icon"].to_pylist()]
    assert RESERVED.isdisjoint({icon.split(":")[0] for icon in icons})
    assert all(f"(`{prefix}`)" not in attribution for prefix in RESERVED)
    assert all(f"(`{icon.split(':')[0]}`)" in attribution for icon in icons)


def test_teacher_and_test_families_are_disjoint_and_complete() -> None:
    test, real = (pq.read_table(asset(f"{name}.parquet")).to_pydict() for name in ("test", "real"))
    assert not set(test["family"]) & set(real["family"])
    assert set(real["domain"]) == {"id"}
    assert set(test["domain"]) == {"id", "outline", "duotone", "color", "pixel", "sketch", "recolored"}
    assert set(test["label"]) == set(real["label"]) == set(range(len(load_classes("pictograms"))))


@pytest.mark.parametrize(
    ("thing", "name"),
    [("bell", "bell"), ("bell ring", "bell"), ("bell pepper", None), ("user star", None), ("paper plane", None),
     ("mouse face", None), ("computer mouse", "mouse"), ("lightning", "bolt"), ("nut bolt", None), ("home", "house"),
     ("box", "box"), ("check box", None), ("open box", "box"), ("credit card", "credit card"), ("card", None),
     ("game controller", "gamepad"), ("gamepad left", None), ("coffee cup", "cup"), ("cup", None)],
)  # fmt: skip
def test_labels_follow_the_rules(thing: str, name: str | None) -> None:
    label = class_of(thing)
    assert (None if label is None else CLASSES[label].name) == name


@pytest.mark.parametrize(
    ("prefix", "name", "expected"),
    [
        ("ph", "bell-duotone", ("bell", "duotone")),
        ("ph", "bell-fill", ("bell", "filled")),
        ("ph", "bell", ("bell", "outline")),
        ("mdi", "bell", ("bell", "filled")),
        ("mdi", "bell-outline", ("bell", "outline")),
        ("solar", "bell-bold", ("bell", "filled")),
        ("reicon", "bell2-filled", ("bell", "filled")),
        ("mdi", "keyboard-f1", ("keyboard f1", "filled")),
        ("pixelarticons", "bell-solid", ("bell", "pixel")),
        ("pepicons-print", "bell-filled", ("bell", "hand-drawn")),
    ],
)
def test_names_split_into_thing_and_style(prefix: str, name: str, expected: tuple[str, str]) -> None:
    assert split_name(prefix, name) == expected


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / f"iconify-json-{VERSION}.tgz").write_bytes(b"half")
    with pytest.raises(SourceError, match="delete it and rerun"):
        download_archive(tmp_path)


def test_a_caption_names_the_colors_that_are_drawn() -> None:
    gray = np.full((64, 64, 3), 255, np.uint8)
    gray[16:48, 16:48] = 0
    icons = GeneratorSet(gray[None], [0], [("red", "yellow")], 0, ["bell"], ["filled"], [""], ["mdi"], np.array([0]))
    as_drawn, in_color = icons.images([0, 1])
    assert torch.equal(as_drawn[:, 32, 32], torch.zeros(3))
    for place, name in (((32, 32), "red"), ((0, 0), "yellow")):
        drawn = 255 * in_color[:, *place].numpy()
        others = {other: np.abs(drawn - COLORS[other]).max() for other in COLORS}
        assert min(others, key=lambda other: others[other]) == name
    texts = {caption("bell", "filled", "", ("red", "yellow"), random.Random(seed)) for seed in range(50)} - {""}
    assert texts
    assert all(("red" in text and "bell" in text and text.endswith("yellow background")) or text.endswith("on yellow")
               for text in texts)  # fmt: skip
    assert not any("red" in caption("bell", "filled", "", None, random.Random(seed)) for seed in range(50))


def test_colors_can_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    assert all(contrast(*random_colors(rng)) >= MIN_CONTRAST for _ in range(100))
    assert all(contrast(*(COLORS[name] for name in named_colors(rng))) >= MIN_CONTRAST for _ in range(100))
    gray = np.dstack([np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))] * 3)
    two = recolored(gray, np.array([200, 0, 0]), np.array([0, 0, 100]))
    assert two[0, 0].tolist() == [200, 0, 0]
    assert np.abs(two[0, -1].astype(int) - [2, 0, 99]).max() <= 1


def test_near_duplicates_are_one_drawing_in_whatever_color() -> None:
    drawing = np.full((64, 64, 3), 255, np.uint8)
    drawing[10:50, 10:20] = drawing[40:50, 10:60] = 0
    assert is_gray(drawing)
    other = np.rot90(drawing).copy()
    in_color = recolored(drawing, np.array([10, 10, 120]), np.array([250, 250, 200]))
    assert first_of_each_drawing(np.stack([drawing, in_color, other])).tolist() == [True, False, True]
    assert np.array_equal(decoded(encoded(in_color)), in_color)
