"""Class lists: formats, and hostile names."""

from pathlib import Path

import pytest

from prismkd.errors import UserError
from prismkd.prompts import ClassName, load_classes


def test_text_has_one_name_per_line(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("10\n2\n\n tabby cat \n")
    assert [item.name for item in load_classes(str(path))] == ["10", "2", "tabby cat"]


def test_json_has_names_or_rows(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text('["crane", {"name": "mouse", "definition": "a computer mouse"}]')
    assert load_classes(str(path)) == [ClassName("crane"), ClassName("mouse", "a computer mouse")]


def test_embedded_classes_have_definitions_and_a_third_is_polysemous() -> None:
    classes = load_classes("pictograms")
    assert 20 <= len(classes) <= 24
    assert all(item.definition for item in classes)
    assert sum(item.polysemous for item in classes) * 3 >= len(classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got none"),
        ("cat\n", "got only 'cat'"),
        ("cat\ndog\ncat\n", "got 'cat' 2 times"),
        ("cat\n../etc\n", "the character '/'"),
        ("cat\n<script>\n", "the character '<'"),
        ("cat\n" + "x" * 10_000, "10000 characters"),
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_classes(str(path))
    assert message in str(error.value)


def test_bad_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    for text in ("{", '{"name": "a"}', '[{"label": "a"}]'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"expected (JSON|a JSON list|a name)"):
            load_classes(str(path))
