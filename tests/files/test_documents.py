"""Reading documents: whatever the bytes, a value of the shape or one line that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from msgspec import Meta

from prismkd.errors import UserError
from prismkd.files import read_document, read_toml


class Row(TypedDict):
    label: Annotated[int, Meta(ge=0)]
    share: float


class Record(TypedDict):
    rows: list[Row]


def test_a_document_of_the_shape_comes_back_with_whole_numbers_as_floats(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": [{"label": 1, "share": 1, "of a later version": []}]}')
    assert read_document(tmp_path / "a.json", Record)["rows"][0]["share"] == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected JSON"),
        ("[" * 100_000, "too deep"),
        ("[" * 65 + "]" * 65, "in each other"),
        ('{"rows": [{"label": true, "share": 1}]}', "rows.*label"),
        ('{"rows": [{"label": -1, "share": 1}]}', ">= 0 at rows"),
        ('{"rows": [{"label": 1, "share": NaN}]}', "finite"),
        ('{"rows": [], "other": [0, {"count": 1' + "0" * 30 + "}]}", r"64 bits as other\[1\].count"),
        ('{"rows": [{"label": 1, "share": 1e999}]}', "finite"),
        ('{"rows": [{"label": 1' + "0" * 30 + ', "share": 1}]}', "64 bits"),
        ('{"rows": [{"label": 1' + "0" * 5000 + ', "share": 1}]}', "JSON"),
        ('{"rows": "\\ud800"}', "expected JSON"),
        ("[]", "expected `object`"),
        ('{"other": 1}', "rows"),
    ],
)
def test_anything_else_is_one_line_that_names_the_file(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=reason) as error:
        read_document(tmp_path / "a.json", Record)
    assert str(tmp_path / "a.json") in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        b"a." * 50_000 + b"b = 1",
        b"[" + b"a." * 50_000 + b"b]",
        b'"=" . ' + b"a." * 50_000 + b"b = 1",
        b"',' ." * 50_000 + b"b = 1",
        b"a = " + b"[" * 100_000,
        b"\xff",
        b"a = nan",
        b"[b]\na = [inf]",
        b"a = 99999999999999999999999",
        b"==",
    ],
)
def test_toml_too(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(text)
    with pytest.raises(UserError, match=r"a\.toml"):
        read_toml(tmp_path / "a.toml", dict[str, Any])


def test_many_points_are_no_long_key(tmp_path: Path) -> None:
    numbers = ", ".join(["1.5"] * 200)
    (tmp_path / "a.toml").write_text(f"[teacher.'a.b'.c]\nmean = [{numbers}]\ntext = 'One. Two words. 3.'\n")
    assert read_toml(tmp_path / "a.toml", dict[str, Any])["teacher"]["a.b"]["c"]["mean"] == [1.5] * 200


def test_a_missing_file_is_an_answer_and_a_folder_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "none.json", Record)
    with pytest.raises(UserError, match="a folder"):
        read_document(tmp_path, Record)


def test_a_number_that_is_not_finite_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[guidance]\nstrength = [1.0, nan]\n")
    with pytest.raises(UserError, match=r"a finite number as guidance\.strength\[1\] in .*a\.toml, got nan"):
        read_toml(tmp_path / "a.toml", dict[str, Any])


@pytest.mark.parametrize(("name", "text"), [("a.json", '{"a": 1}'), ("a.toml", "a = 1")])
def test_the_byte_order_mark_of_an_editor_is_no_part_of_a_document(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    read = read_document if name.endswith("json") else read_toml
    assert read(tmp_path / name, dict[str, Any]) == {"a": 1}


def test_lists_of_64_levels_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 64 + "]" * 64)
    assert read_document(tmp_path / "a.json", list[Any])
