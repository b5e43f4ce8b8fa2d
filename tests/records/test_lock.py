"""One command at a time; a lock goes with its process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prismkd.errors import UserError
from prismkd.records.lock import holder, is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from prismkd.records.lock import locked
with locked(Path(sys.argv[2]), sys.argv[3]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(directory: Path, name: str = "run") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock, killed at the end."""
    command = [sys.executable, "-c", HOLD, "synthesize", str(directory), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_the_second_process_says_who_holds_the_lock_and_gets_it_after_a_kill(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        with pytest.raises(UserError) as error, locked(tmp_path):
            pass
        assert f"one that is in use by process {process.pid} on " in str(error.value)
        assert "(prismkd synthesize, since 20" in str(error.value)
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)


def test_ranks_share_a_directory_with_each_other_and_with_no_other_command(tmp_path: Path) -> None:
    with held(tmp_path, "rank-0-of-2"):
        with locked(tmp_path, "rank-1-of-2"):
            pass
        for name in ("run", "rank-0-of-2"):
            with pytest.raises(UserError, match="in use by process"), locked(tmp_path, name):
                pass


def test_no_rank_starts_beside_a_whole_command(tmp_path: Path) -> None:
    with (
        held(tmp_path, "run"),
        pytest.raises(UserError, match="in use by process"),
        locked(tmp_path, "rank-0-of-2"),
    ):
        pass


def test_who_waits_gets_it_when_the_holder_ends(tmp_path: Path) -> None:
    with held(tmp_path, "prepare") as process:
        start = time.monotonic()
        subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {process.pid}"])
        with locked(tmp_path, "prepare", wait=True):
            assert time.monotonic() - start > 0.4


def test_a_full_disk_does_not_hide_who_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / ".locks").mkdir()
    monkeypatch.setattr("os.fsync", refuse)
    with locked(tmp_path):
        assert is_locked(tmp_path) and holder(tmp_path) == "another process"
    assert not is_locked(tmp_path)


def test_nobody_works_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.open", refuse)
    assert not is_locked(tmp_path)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"expected .*file/.locks to be usable, got: Not a directory"),
        locked(tmp_path / "file"),
    ):
        pass


@pytest.mark.parametrize("link", [".locks", ".locks/run.lock"])
def test_no_lock_is_taken_through_a_link(tmp_path: Path, link: str) -> None:
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / "run.lock"
    own.write_text("mine")
    (tmp_path / "run" / link).parent.mkdir(parents=True)
    (tmp_path / "run" / link).symlink_to(own if link.endswith("lock") else own.parent)
    with pytest.raises(UserError, match="expected no link at"), locked(tmp_path / "run"):
        pass
    assert not is_locked(tmp_path / "run")
    assert own.read_text() == "mine" and list(own.parent.iterdir()) == [own]


def test_a_description_takes_the_place_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("mine")
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "run.json").symlink_to(tmp_path / "own.json")
    with locked(tmp_path):
        assert holder(tmp_path).startswith("process ")
    assert (tmp_path / "own.json").read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match=r"expected a disk with file locks \(flock\) for .*; choose another --out"):
        locked(tmp_path).__enter__()
    assert not is_locked(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"pid": "1", "host": "", "command": "", "since": ""}', "[" * 100_000,
     '{"pid": 1, "host": 5, "command": null, "since": []}'],
)  # fmt: skip
def test_a_description_that_is_none_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "run.json").write_text(text)
    assert holder(tmp_path) == "another process"


def test_a_description_commands_no_terminal(tmp_path: Path) -> None:
    (tmp_path / ".locks").mkdir()
    hostile = {"pid": 1, "host": "\x1b[2J", "command": "x" * 10**6, "since": "a\nb"}
    (tmp_path / ".locks" / "run.json").write_text(json.dumps(hostile))
    assert holder(tmp_path).isprintable() and len(holder(tmp_path)) < 200
    (tmp_path / ".locks" / "run.json").unlink()
    os.mkfifo(tmp_path / ".locks" / "run.json")
    assert holder(tmp_path) == "another process", "a pipe isn't waited for"


def test_a_process_that_was_forked_keeps_no_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    try:
        assert not is_locked(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_a_killed_holder_was_writing_goes_with_the_next_one(tmp_path: Path) -> None:
    """Ranks clear nothing else away, since others may be at work."""
    with locked(tmp_path, "rank-0-of-2"):
        pass
    left = tmp_path / ".locks" / ".prismkd-rank-0-of-2.json.0123456789abcdef.tmp"
    left.write_text("{")
    with locked(tmp_path, "rank-0-of-2"):
        assert not left.exists()
