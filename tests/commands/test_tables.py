"""Printed tables: readable at any width, with every value whole or folded, and nothing empty."""

from __future__ import annotations

import pytest

from prismkd.commands.status import print_status
from prismkd.commands.tables import print_table, show
from prismkd.records.status import DatasetStatus, Status

WIDTHS = [20, 40, 80, 200]
STATUS = Status(
    [
        DatasetStatus(0, "plain", 4, 4, 1200, 1200, 0.0021, 22.81, 0, 0, student=True, evaluated=False),
        DatasetStatus(1, "prism", 2, 5, 480, 1200, 0.0009, 18.4, 1, 2, student=False, evaluated=False),
    ],
    ["run: process 17 on node-3"],
)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_status_is_readable_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_status(STATUS)
    shown = capsys.readouterr().out
    table = shown[: shown.index("about ")]
    assert all(len(line) <= width for line in table.splitlines())
    for value in ("plain", "prism", "1,200/1,200", "480/1,200", "22.8", "0.002", "trained", "4/4", "2/5"):
        assert value in table
    assert "…" not in table


@pytest.mark.parametrize("width", WIDTHS)
def test_no_letter_of_a_cell_is_lost(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    prompt = "an oil painting of a sleeping whippet beside an armchair"
    rows = [["whippet", prompt, "painting", "1,234,567"], ["", "supercalifragilisticexpialidocious" * 2, "", "2"]]
    print_table("First prompts of 12 classes", ["class", "prompt", "style", "n"], rows, left=3)
    shown = capsys.readouterr().out
    assert all(len(line) <= width for line in shown.splitlines())
    letters = [letter for letter in shown if letter.isalpha()]
    assert all(letters.count(letter) >= prompt.count(letter) for letter in set(prompt) if letter.isalpha())
    assert "1,234,567" in shown


def test_a_narrow_list_leaves_out_what_is_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table("Data sets", ["method", "trouble", "shards", "images"], [["plain", "", "4/4", "1,200/1,200"]], left=2)
    assert capsys.readouterr().out == "Data sets\n\nmethod: plain\nshards: 4/4\nimages: 1,200/1,200\n"


def test_a_table_without_lines_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Data sets", ["method", "images"], [], left=1)
    assert "method" in capsys.readouterr().out


@pytest.mark.parametrize("width", WIDTHS)
def test_a_name_commands_no_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("of [red]\x1b[31m", ["[bold]name", "\u202eeman"], [["\x1b]0;title\x07", "x" * 10**6]], left=1)
    show("a\x1b[2J\nb")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and len(shown) < 10_000
    assert "[bold]" in "".join(shown.split()) and r"a\x1b[2J" in shown
