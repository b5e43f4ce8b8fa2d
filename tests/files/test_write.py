"""Writing files: whole or not at all, never through a link inside a run, and what was killed is cleared away."""

from __future__ import annotations

from pathlib import Path

import pytest

from prismkd.errors import UserError
from prismkd.files import remove_temporary_files, write, writing


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
    with pytest.raises(UserError, match="no link inside a run"):
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
