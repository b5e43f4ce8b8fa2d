"""The embedded world: roles are disjoint, reserved sets stay unused, labels follow the rules."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.pictograms.classes import CLASSES, class_of
from benchmarks.pictograms.families import GENERATOR, RESERVED, TEACHER, TEST, role_of, split_name
from benchmarks.pictograms.source import VERSION, SourceError, download_archive
from prismkd.assets import asset

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
    assert set(test["domain"]) == {"id", "outline", "duotone", "color", "pixel", "sketch"}
    assert set(test["label"]) == set(real["label"]) == set(range(len(CLASSES)))


@pytest.mark.parametrize(
    ("thing", "name"),
    [("bell", "bell"), ("bell ring", "bell"), ("bell pepper", None), ("user star", None), ("paper plane", None),
     ("mouse face", None), ("computer mouse", "mouse"), ("lightning", "bolt"), ("nut bolt", None), ("home", "house")],
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
    ],
)
def test_names_split_into_thing_and_style(prefix: str, name: str, expected: tuple[str, str]) -> None:
    assert split_name(prefix, name) == expected


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / f"iconify-json-{VERSION}.tgz").write_bytes(b"half")
    with pytest.raises(SourceError, match="delete it and rerun"):
        download_archive(tmp_path)
