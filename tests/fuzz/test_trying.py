"""The fuzzer itself: it sees what a reader must not do, and what it keeps is what it found."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prismkd.errors import UserError
from tests.fuzz import corpus, targets
from tests.fuzz.mutations import Case
from tests.fuzz.targets import Family
from tests.fuzz.trying import Workspace


def read_number(folder: Path) -> int:
    try:
        return int((folder / "number.txt").read_text())
    except ValueError:
        raise UserError("expected a number, got something else; write one") from None


def workspace_of(read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    family = Family(lambda folder: (folder / "number.txt").write_text("1"), read_number)
    monkeypatch.setitem(targets.FAMILIES, "numbers", family)
    found = Workspace("numbers", tmp_path / "input")
    found.family = replace(family, read=read)
    return found


def connect(_: Path) -> None:
    try:
        socket.create_connection(("127.0.0.1", 9))
    except OSError:
        raise UserError("expected a server, got none; start one") from None


def run_program(_: Path) -> None:
    subprocess.run([sys.executable, "-c", ""])


def run_code(folder: Path) -> None:
    (folder / "planted.py").write_text("")
    exec((folder / "planted.py").read_text())


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda folder: None, "accepted"),
        (read_number, "accepted"),
        (lambda folder: (folder / "new.txt").write_text(""), "accepted"),
        (lambda folder: (folder / "none.txt").read_text(), "traceback"),
        (lambda folder: sys.exit(0), "traceback"),
        (lambda folder: (folder.parent / "other.txt").write_text(""), "outside"),
        (lambda folder: os.remove(folder.parent / "victim"), "outside"),
        (connect, "outside"),
        (run_program, "outside"),
        (run_code, "outside"),
    ],
)
def test_whatever_a_reader_does_is_seen(
    read: Callable[[Path], Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim").touch()
    found = workspace_of(read, tmp_path, monkeypatch)
    assert found.read({}).kind == kind
    assert [path.name for path in found.folder.iterdir()] == ["number.txt"], "what a reader wrote is taken away"


def test_an_input_is_put_in_place_and_taken_away_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = workspace_of(read_number, tmp_path, monkeypatch)
    assert found.read({"number.txt": b"x", "deep/new": b""}).kind == "refused"
    assert found.read({"number.txt": None}).text.startswith("FileNotFoundError")
    assert found.read({}).kind == "accepted"
    assert [path.read_text() for path in found.folder.rglob("*") if path.is_file()] == ["1"]


@pytest.mark.parametrize(
    "contents", [None, b"", b"text", b"a\r\nb", b"\xff", b"\x00\xff12345\xfe", b"\x00\xff1X345\xfe"]
)
def test_what_is_kept_comes_back(contents: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CORPUS", tmp_path)
    base = {"a.bin": b"\x00\xff12345\xfe"}
    case: Case = {"a.bin": contents, "b.bin": contents}
    path = corpus.keep("numbers", case, base, "a fault")
    assert path is not None and corpus.load(path, base) == case
    assert list(corpus.kept()) == [("numbers", path)]
