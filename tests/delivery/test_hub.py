"""`prismkd push-to-hub` sends nothing unless it is told to, and then exactly what it showed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.utils import filter_repo_objects

from prismkd.cli import main
from prismkd.delivery.hub import plan_upload
from prismkd.errors import UserError


class FakeHub:
    """Stands in for ``huggingface_hub.HfApi``; keeps what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.private = True
        self.error: Exception | None = None

    def __call__(self, **kwargs: Any) -> FakeHub:
        return self

    def create_repo(self, repo_id: str, **kwargs: Any) -> str:
        self.calls.append(("create_repo", {"repo_id": repo_id, **kwargs}))
        if self.error:
            raise self.error
        return f"https://huggingface.co/{repo_id}"

    def repo_info(self, repo_id: str, **kwargs: Any) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, **kwargs: Any) -> None:
        self.calls.append(("upload_folder", kwargs))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


@pytest.fixture
def student(tmp_path: Path) -> Path:
    folder = tmp_path / "student"
    (folder / ".cache").mkdir(parents=True)
    (folder / "docs" / ".git").mkdir(parents=True)
    for name in ("config.json", "model.onnx", "README.md", "docs/note.md", ".env", ".cache/x", "docs/.git/config"):
        (folder / name).write_text(name)
    return folder


def test_without_yes_nothing_is_called(student: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push-to-hub", str(student), "--repo", "me/mine", "--private"]) == 0
    said = capsys.readouterr().out
    assert hub.calls == []
    assert "private model repository me/mine" in " ".join(said.split()) and "--yes" in said
    assert all(name in said for name in ("config.json", "model.onnx", "README.md", "docs/note.md"))
    assert ".env" not in said


def test_with_yes_it_sends_what_it_showed(student: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push-to-hub", str(student), "--repo", "me/mine", "--private", "--yes"]) == 0
    (create, how), (send, what) = hub.calls
    assert (create, how["repo_id"], how["private"], how["repo_type"]) == ("create_repo", "me/mine", True, "model")
    assert (send, what["repo_id"], what["folder_path"]) == ("upload_folder", "me/mine", student)
    everything = [path.relative_to(student).as_posix() for path in student.rglob("*") if path.is_file()]
    sent = filter_repo_objects(everything, ignore_patterns=what["ignore_patterns"])
    assert sorted(sent) == sorted(plan_upload(student, "me/mine", True).files) == [
        "README.md", "config.json", "docs/note.md", "model.onnx",
    ]  # fmt: skip
    assert "https://huggingface.co/me/mine" in capsys.readouterr().out


def test_what_a_link_leads_to_is_not_sent(
    student: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "id_ed25519").write_text("private")
    (student / "docs" / "notes.txt").symlink_to(tmp_path / "id_ed25519")
    assert main(["push-to-hub", str(student), "--repo", "me/mine", "--yes"]) == 2
    assert "notes.txt, got one that leads to" in capsys.readouterr().err and hub.calls == []


def test_a_public_repository_gets_nothing_private(
    student: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.private = False
    assert main(["push-to-hub", str(student), "--repo", "me/mine", "--private", "--yes"]) == 2
    assert "nothing was sent" in capsys.readouterr().err
    assert [name for name, _ in hub.calls] == ["create_repo"]


def test_an_error_of_the_hub_is_one_line_without_the_token(
    student: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.error = RuntimeError("401 Unauthorized\nfor Bearer hf_abcDEF123456\n(Request ID: 1)")
    assert main(["push-to-hub", str(student), "--repo", "me/mine", "--yes"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "401 Unauthorized" in error and "hf auth login" in error
    assert "abcDEF123456" not in error


def test_what_is_neither_student_nor_exported_data_set_stays_here(tmp_path: Path) -> None:
    (tmp_path / "_info.json").write_text("{}")
    (tmp_path / "shard-000000.tar").write_bytes(b"")
    assert plan_upload(tmp_path, "me/mine", False).kind == "dataset"
    (tmp_path / "unfinished-export").write_text("")
    with pytest.raises(UserError, match="expected a finished export"):
        plan_upload(tmp_path, "me/mine", False)
    (tmp_path / "unfinished-export").unlink()
    (tmp_path / "dataset.json").write_text("{}")  # a run's own images, with their ledger
    with pytest.raises(UserError, match="expected a delivered student or an exported data set"):
        plan_upload(tmp_path, "me/mine", False)
    with pytest.raises(UserError, match="expected a delivered student or an exported data set"):
        plan_upload(tmp_path / "nowhere", "me/mine", False)
    for name in ("mine", "me/mine/more", "me/..", "me/m ine", "-/x", "https://huggingface.co/me/mine"):
        with pytest.raises(UserError, match="expected --repo org/name"):
            plan_upload(tmp_path, name, False)
