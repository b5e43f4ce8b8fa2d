"""Pipes and devices where a file should be: nothing waits for their other end, or reads them without end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prismkd.classes.files import read_text
from prismkd.errors import UserError
from prismkd.files import open_plain
from prismkd.files.documents import MAX_BYTES
from prismkd.prompts.length import _json
from prismkd.shards import read_manifest


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, endless])
def test_a_pipe_or_a_device_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "dataset.json")
    with pytest.raises(OSError, match="a pipe or a device"):
        open_plain(tmp_path / "dataset.json")
    with pytest.raises(UserError, match="a pipe or a device"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="a pipe or a device"):
        read_text(tmp_path / "dataset.json", "a class list", "check it")
    assert _json(tmp_path / "dataset.json") == {}


def test_files_and_links_to_files_are_opened_and_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    with open_plain(tmp_path / "link") as file:
        assert file.read() == b"text"
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "nothing")


def test_a_record_of_a_data_set_is_small(tmp_path: Path) -> None:
    with (tmp_path / "dataset.json").open("wb") as file:
        file.truncate(100 * MAX_BYTES)  # which takes no room on the disk
    with pytest.raises(UserError, match="at most 256 MiB"):
        read_manifest(tmp_path)
