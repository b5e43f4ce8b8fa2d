"""What the package ships has a license that allows it, and says whose it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.pictograms.families import role_of
from prismkd.assets import CLASS_LISTS, PICTOGRAMS

ROOT = Path(__file__).parents[1]
NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
ATTRIBUTION = (PICTOGRAMS / "ATTRIBUTION.md").read_text(encoding="utf-8")
ATTRIBUTED = {"CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/"}  # a link to the license has to be there
WITH_NOTICE = {"MIT": "The MIT License", "ISC": "The ISC License", "BSD-3-Clause": "The BSD 3-Clause License"}
FOR_IMAGES = {*ATTRIBUTED, *WITH_NOTICE, "Apache-2.0", "CC0-1.0", "OFL-1.1", "Unlicense"}
FOR_WEIGHTS = FOR_IMAGES | {"MPL-2.0"}  # binds copies of its files, and weights are none
ROLES = {"teacher training images": "teacher", "test images": "test", "generator weights": "generator"}
ROW = re.compile(r"^\| .+? \(`(?P<prefix>[\w-]+)`\) \| (?P<author>.*?) \| (?P<license>.*?) \| (?P<uses>.*?) \|$", re.M)
LINK = re.compile(r"\[(?P<text>.+)\]\((?P<address>.+)\)")


class IconSet(NamedTuple):
    """A row of the attribution."""

    prefix: str
    author: str
    license: str
    license_link: str
    uses: tuple[str, ...]


def listed(attribution: str) -> dict[str, IconSet]:
    """The icon sets that an attribution lists, by prefix."""
    found = {}
    for row in ROW.finditer(attribution):
        link = LINK.fullmatch(row["license"])
        name, address = (link["text"], link["address"]) if link else (row["license"], "")
        found[row["prefix"]] = IconSet(row["prefix"], row["author"], name, address, tuple(row["uses"].split(", ")))
    return found


def unlicensed(icons: Iterable[str], attribution: str) -> dict[str, str]:
    """The sets of shipped icons (``prefix:name``) that may not be shipped, with the reason."""
    sets, problems = listed(attribution), {}
    for prefix in {icon.partition(":")[0] for icon in icons}:
        if prefix not in sets:
            problems[prefix] = "not listed"
        elif sets[prefix].license not in FOR_IMAGES:
            problems[prefix] = f"license {sets[prefix].license}"
        elif not any(use.endswith("images") for use in sets[prefix].uses):
            problems[prefix] = "not listed as shipped"
    return problems


def wrongly_listed(attribution: str) -> dict[str, str]:
    """The sets that an attribution doesn't attribute as their licenses want, or that have another role."""
    problems = {}
    for item in listed(attribution).values():
        info = {"license": {"spdx": item.license}, "category": ""}
        role = role_of(item.prefix, info).role
        if item.license not in (FOR_WEIGHTS if role == "generator" else FOR_IMAGES):
            problems[item.prefix] = f"license {item.license}"
        elif [ROLES.get(use) for use in item.uses] != [role]:
            problems[item.prefix] = f"role {role}"
        elif not item.author.strip("[] "):
            problems[item.prefix] = "no author"
        elif item.license in ATTRIBUTED and not item.license_link.startswith("https://"):
            problems[item.prefix] = "no link to its license"
    return problems


@pytest.mark.parametrize("path", sorted(PICTOGRAMS.parent.rglob("*.parquet")), ids=lambda path: path.name)
def test_every_shipped_icon_may_be_shipped(path: Path) -> None:
    icons = pq.read_table(path, columns=["icon"])["icon"].to_pylist()
    assert icons
    assert unlicensed(icons, ATTRIBUTION) == {}


def test_every_set_is_attributed_and_free_to_use_so() -> None:
    rows = [line for line in ATTRIBUTION.splitlines() if line.startswith("|") and "(`" in line]
    assert len(rows) == len(listed(ATTRIBUTION)) > 100  # no row that the pattern misses
    assert wrongly_listed(ATTRIBUTION) == {}


def test_icons_of_other_sets_are_noticed(tmp_path: Path) -> None:
    shipped = pq.read_table(PICTOGRAMS / "test.parquet").slice(0, 3)
    row = shipped.slice(0, 1).set_column(shipped.schema.get_field_index("icon"), "icon", [["unknown-set:bell"]])
    pq.write_table(pa.concat_tables([shipped, row]), tmp_path / "test.parquet")
    icons = pq.read_table(tmp_path / "test.parquet")["icon"].to_pylist()
    assert unlicensed(icons, ATTRIBUTION) == {"unknown-set": "not listed"}

    rows = "\n".join(f"| Set (`{prefix}`) | {author} | {license_} | {use} |" for prefix, author, license_, use in (
        ("ph", "[Ann](https://a.org)", "[CC-BY-NC-4.0](https://b.org)", "test images"),
        ("mdi", "Ann", "MPL-2.0", "teacher training images"),
        ("openmoji", "Ann", "MIT", "test images"),  # reserved
        ("lucide", "Ann", "MIT", "test images"),  # of the generator's families
        ("circum", "Ann", "MPL-2.0", "generator weights"),
        ("solar", "Ann", "CC-BY-4.0", "test images"),
        ("uil", "", "MIT", "test images"),
    ))  # fmt: skip
    assert wrongly_listed(rows) == {
        "ph": "license CC-BY-NC-4.0", "mdi": "license MPL-2.0", "openmoji": "role reserved",
        "lucide": "role generator", "solar": "no link to its license", "uil": "no author",
    }  # fmt: skip
    assert unlicensed(["ph:bell", "mdi:bell", "circum:bell", "lucide:bell"], rows) == {
        "ph": "license CC-BY-NC-4.0", "mdi": "license MPL-2.0", "circum": "license MPL-2.0",
    }  # fmt: skip
    assert unlicensed(["feather:x"], "| Feather (`feather`) | Ann | MIT | generator weights |") == {
        "feather": "not listed as shipped"
    }


def test_the_notice_has_what_licenses_ask_for() -> None:
    used = {item.license for item in listed(ATTRIBUTION).values()}
    assert [title for name, title in WITH_NOTICE.items() if name in used and title not in NOTICE] == []
    text = " ".join(NOTICE.split())
    assert "ATTRIBUTION.md" in text
    assert "Changes: each icon was drawn at 64 x 64 pixels" in text
    assert "sentence-transformers/all-MiniLM-L6-v2" in text and "google-bert/bert-base-uncased" in text
    assert "Princeton University" in text and (PICTOGRAMS.parent / "wordnet" / "LICENSE").is_file()


@pytest.mark.parametrize("path", sorted(CLASS_LISTS.glob("*.tsv")), ids=lambda path: path.stem)
def test_the_notice_names_where_each_class_list_is_from(path: Path) -> None:
    source = path.read_text(encoding="utf-8").removeprefix("# ").partition(":")[0]
    assert source.partition(" (")[0] in NOTICE


def test_licenses_travel_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0" and {"LICENSE", "NOTICE"} <= set(project["license-files"])
