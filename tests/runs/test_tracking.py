"""Trainings in trackers: each row of the log arrives there, and the final results."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from prismkd.cli import main
from prismkd.config import DistillationConfig
from prismkd.config.trackers import TRACKERS
from prismkd.distillation import TrainingSet, new_student, train
from prismkd.distillation.loop import CHECKPOINT_EVERY, NUM_ROWS, steps_of_a_row
from prismkd.errors import UserError
from prismkd.runs import tracking
from prismkd.runs.tracking import track_results, tracked


@pytest.mark.parametrize("num_steps", [1, 40, 120, 999, 1000, 30_000])
def test_a_training_has_fifty_rows_and_each_checkpoint_has_one(num_steps: int) -> None:
    every = steps_of_a_row(num_steps)
    assert CHECKPOINT_EVERY % every == 0
    assert num_steps // every >= min(NUM_ROWS, num_steps)


def test_each_row_of_the_log_is_passed_on() -> None:
    recipe = DistillationConfig(
        architecture="small-resnet-4", num_steps=3, batch_size=4, hard_label_weight=1.0, mixed_precision="no"
    )
    rows = list[dict[str, float]]()
    data = TrainingSet(torch.rand(8, 1, 16, 16), torch.arange(8) % 2)
    log = train(new_student(recipe, 2, 1, seed=0), None, data, recipe, seed=0, on_row=rows.append)
    assert rows == log.rows and [row["step"] for row in rows] == [1, 2, 3]
    assert all({"step", "loss", "lr"} == row.keys() for row in rows)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wandb").mkdir()  # where W&B keeps its files: no package
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("prismkd.config.trackers.find_spec", only_folders)
    assert main(["run", "--out", "out", "--distillation.tracker", name]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: expected the package {name} for distillation.tracker, got none; pip install")
    assert not (tmp_path / "out").exists()


def only_folders(name: str):
    """As on a machine without any of the packages."""
    from importlib.machinery import ModuleSpec

    return ModuleSpec(name, None) if Path(name).is_dir() else None


class Recorder:
    """A tracker that keeps what it gets, or refuses it."""

    def __init__(self, problem: str = "") -> None:
        self.problem, self.rows, self.finished = problem, list[tuple[int, dict[str, float]]](), 0

    def log(self, values: dict[str, float], step: int) -> None:
        if self.problem:
            raise ConnectionError(self.problem)
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_rows_and_results_reach_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(tracking, "_started", lambda *arguments: [recorder])
    with tracked("wandb", tmp_path, "student prism (seed 0)") as on_row:
        on_row({"step": 20, "loss": 0.5, "lr": 0.001})
    row = {"metric": "top1", "domain": "id", "method": "prism", "seed": 0, "value": 0.8}
    track_results("wandb", tmp_path, [row, {**row, "metric": "fd", "value": None}])
    assert recorder.rows == [(20, {"loss": 0.5, "lr": 0.001}), (0, {"top1/id/prism/seed-0": 0.8})]
    assert recorder.finished == 2


def test_a_tracker_that_fails_is_one_warning_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "_started", lambda *arguments: [Recorder("no route to host")])
    with tracked("mlflow", tmp_path, "student") as on_row:
        for step in range(3):
            on_row({"step": step, "loss": 1.0})
    assert capsys.readouterr().err.count("mlflow takes no more of student: no route to host") == 1


def test_tensorboard_has_the_curve(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracked("tensorboard", tmp_path, "student prism (seed 0)") as on_row:
        for step in (20, 40):
            on_row({"step": step, "loss": step / 100, "lr": 0.001})
    found = EventAccumulator(str(tmp_path / "tracker" / "student prism (seed 0)")).Reload()
    assert [(event.step, round(event.value, 3)) for event in found.Scalars("loss")] == [(20, 0.2), (40, 0.4)]


def test_a_tracker_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("not logged in\nlong-winded")

    monkeypatch.setattr("accelerate.Accelerator.init_trackers", refuse)
    monkeypatch.setattr(tracking, "check_tracker", lambda name: None)
    with (
        pytest.raises(UserError, match="expected wandb to start, got: not logged in; log in"),
        tracked("wandb", tmp_path, "student"),
    ):
        pass


def test_a_full_disk_ends_no_training_for_its_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tracking, "check_tracker", lambda name: None)
    with monkeypatch.context() as patch:
        patch.setattr("accelerate.Accelerator.init_trackers", refuse)
        with tracked("tensorboard", tmp_path, "student") as on_row:
            on_row({"step": 1, "loss": 1.0})
    recorder = Recorder()
    monkeypatch.setattr(recorder, "finish", refuse)
    monkeypatch.setattr(tracking, "_started", lambda *arguments: [recorder])
    with tracked("tensorboard", tmp_path, "student") as on_row:
        on_row({"step": 1, "loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("tensorboard takes no more of student: [Errno 28] No space left on device") == 2
    assert recorder.rows == [(1, {"loss": 1.0})]


def test_no_tracker_writes_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "check_tracker", lambda name: None)
    (tmp_path / "run" / "tracker").mkdir(parents=True)
    (tmp_path / "run" / "tracker" / "student").symlink_to(tmp_path)
    with (
        pytest.raises(UserError, match="expected no link at"),
        tracked("tensorboard", tmp_path / "run", "student"),
    ):
        pass
