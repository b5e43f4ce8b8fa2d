"""Writing files: whole or not at all, never through a link inside a run, and what was killed is cleared away."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from prismkd.errors import UserError
from prismkd.files import (
    check_no_link_out,
    is_temporary,
    is_used,
    make_folder,
    making_folder,
    remove,
    remove_leftovers,
    remove_temporary_files,
    rename,
    write,
    writing,
)
from prismkd.files.write import OWN_FILES
from prismkd.shards import Storage
from tests.files.killing import contents, kill_everywhere, small_files


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "a.txt") as file:
        file.write(b"new" * (1 // 0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_nothing_is_written_through_a_link_inside_a_run(tmp_path: Path) -> None:
    run, own = tmp_path / "run", tmp_path / "own"
    run.mkdir()
    own.mkdir()
    (own / "file.json").write_text("mine")
    (run / "run.json").write_text("{}")
    (run / "seed-0").symlink_to(own)
    with pytest.raises(UserError, match="no link at"):
        write(run / "seed-0" / "file.json", "theirs")
    (run / "report.html").symlink_to(own / "file.json")
    write(run / "report.html", "page")  # takes the link's place
    assert (own / "file.json").read_text() == "mine" and not (run / "report.html").is_symlink()


def test_a_link_above_a_run_is_the_user_s_own(tmp_path: Path) -> None:
    (tmp_path / "large" / "run").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "large")
    (tmp_path / "runs" / "run" / "run.json").write_text("{}")
    write(tmp_path / "runs" / "run" / "seed-0" / "a.txt", "text")
    assert (tmp_path / "large" / "run" / "seed-0" / "a.txt").read_text() == "text"


def test_only_our_temporary_files_are_removed(tmp_path: Path) -> None:
    kept = [tmp_path / ".tmp-mine.txt", tmp_path / ".prismkd-notes.tmp", tmp_path / "a.txt"]
    for path in (*kept, tmp_path / ".prismkd-a.txt.0123456789abcdef.tmp"):
        path.write_text("")
    remove_temporary_files(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_the_disk_refuses_is_named_as_the_user_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError) as error, making_folder(tmp_path / "mine"):
        pass
    assert str(error.value).startswith(f"expected {tmp_path / 'mine'} to be usable, got: Permission denied;")
    assert not list(tmp_path.iterdir())


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A run's folder in which ``theirs`` leads to the user's own folder."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file.json").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "run" / "theirs").symlink_to(tmp_path / "own")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: write(folder / "new.json", ""),
        lambda folder: make_folder(folder / "a" / "b"),
        lambda folder: remove(folder / "file.json"),
        lambda folder: rename(folder / "file.json", folder.parent / "stolen.json"),
        lambda folder: rename(folder.parent / "run.json", folder / "run.json"),
        lambda folder: remove_leftovers(folder / "file.json"),
        lambda folder: making_folder(folder / "new").__enter__(),
        lambda folder: check_no_link_out(folder.parent),
        lambda folder: Storage(folder.parent).write("theirs/new.json", b""),
        lambda folder: Storage(folder.parent).remove("theirs/file.json"),
    ],
)
def test_nothing_happens_through_a_link(received: Path, act: Callable[[Path], object]) -> None:
    leftover = received.parent / "own" / ".prismkd-file.json.0123456789abcdef.tmp"
    leftover.write_text("of another program's run")
    before = contents(received.parent)
    with pytest.raises(UserError, match=r"expected no link at .*theirs, got one that leads to .*own; replace"):
        act(received / "theirs")
    assert contents(received.parent) == before


@pytest.mark.parametrize("name", OWN_FILES)
def test_any_of_prismkds_folders_is_known_as_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_text("")
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="expected no link at"):
        write(tmp_path / "folder" / "link" / "a.txt", "")


def test_links_from_one_part_of_a_folder_to_another_lead_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "run" / "a").mkdir(parents=True)
    (tmp_path / "run" / "b").symlink_to("a")
    (tmp_path / "run" / "tracker").mkdir()
    (tmp_path / "run" / "tracker" / "log").symlink_to("/var/log")
    check_no_link_out(tmp_path / "run", ignoring="tracker")
    (tmp_path / "run" / "c").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"at .*/run/c, got one that leads to /etc/passwd"):
        check_no_link_out(tmp_path / "run", ignoring="tracker")


# --- names and modes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "🦆" * 63, "\n" * 200])
def test_a_name_may_be_as_long_as_the_disk_takes(tmp_path: Path, name: str) -> None:
    left = writing(tmp_path / name)
    left.__enter__()
    assert [is_temporary(path.name) for path in tmp_path.iterdir()] == [True]
    remove_leftovers(tmp_path / name)
    write(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_leftovers_are_of_this_file_alone(tmp_path: Path) -> None:
    names = [".prismkd-a.json.0123456789abcdef.tmp", ".prismkd-aa.json.0123456789abcdef.tmp", ".tmp-a.json", "a.json"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / ".prismkd-a.json.fedcba9876543210.tmp" / "below").mkdir(parents=True)
    remove_leftovers(tmp_path / "a.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700),
                                                      (0o002, 0o664, 0o775)])  # fmt: skip
def test_files_and_folders_have_the_users_own_modes(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "made" / "a.txt", "text")
        with making_folder(tmp_path / "at-once") as made:
            write(made / "a.txt", "text")
    finally:
        os.umask(before)
    for name in ("made", "at-once"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == folder
        assert stat.S_IMODE((tmp_path / name / "a.txt").stat().st_mode) == file


# --- errors of the disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_whatever_a_disk_refuses_is_one_line_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    write(tmp_path / "a.txt", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(UserError, match=rf"expected .*a\.txt.*, got: {os.strerror(code)}; "):
            write(tmp_path / "a.txt", "new")
    assert contents(tmp_path) == {"a.txt": b"old"}
    write(tmp_path / "a.txt", "new")
    assert contents(tmp_path) == {"a.txt": b"new"}


def test_a_name_too_long_for_the_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got: File name too long"):
        write(tmp_path / ("a" * 256), "")
    with pytest.raises(UserError, match="got: File name too long"):
        write(tmp_path / ("a" * 256) / "a.txt", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", [lambda file: torch.save({"weights": torch.rand(100_000)}, file),
                                     lambda file: pq.write_table(pa.table({"a": np.random.rand(400_000)}), file),
                                     lambda file: [file.write(bytes(2**20)) for _ in range(3)]])  # fmt: skip
def test_the_disks_reason_is_said_whatever_a_library_makes_of_it(
    tmp_path: Path, library: Callable[[BinaryIO], object]
) -> None:
    write(tmp_path / "a.bin", "old")
    room = r"expected room for .*a\.bin, got: File too large; allow larger files"
    with small_files(100_000), pytest.raises(UserError, match=room), writing(tmp_path / "a.bin") as file:
        library(file)
    assert contents(tmp_path) == {"a.bin": b"old"}


def test_an_error_that_a_library_keeps_to_itself_is_raised(tmp_path: Path) -> None:
    def swallow(file: BinaryIO) -> None:
        with suppress(UserError):
            file.write(bytes(2**21))

    with small_files(100), pytest.raises(UserError, match="expected room for"), writing(tmp_path / "a.bin") as file:
        swallow(file)
    assert contents(tmp_path) == {}


# --- folders that appear at once -------------------------------------------------------------------------------------


def test_a_folder_that_is_killed_at_any_moment_is_made_again(tmp_path: Path) -> None:
    def work(path: Path) -> None:
        with making_folder(path) as folder:
            write(folder / "a.txt", "text")
            write(folder / "b" / "c.txt", "more")

    assert kill_everywhere(work, tmp_path) > 10


def test_a_folder_takes_the_place_of_an_empty_one_and_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("precious")
    with making_folder(tmp_path / "link") as folder:
        write(folder / "a.txt", "text")
    with pytest.raises(UserError, match="Directory not empty"), making_folder(tmp_path / "used") as folder:
        write(folder / "a.txt", "text")
    assert contents(tmp_path) == {"empty": None, "empty/a.txt": b"text", "link": None, "used": None,
                                  "used/thesis.tex": b"precious"}  # fmt: skip


def test_what_killed_writers_have_left_makes_no_folder_a_used_one(tmp_path: Path) -> None:
    assert not is_used(tmp_path / "nowhere") and not is_used(tmp_path)
    (tmp_path / ".prismkd-run.json.0123456789abcdef.tmp").write_text("")
    assert not is_used(tmp_path)
    (tmp_path / ".tmp-mine.txt").write_text("")
    assert is_used(tmp_path) and is_used(tmp_path / ".tmp-mine.txt")
