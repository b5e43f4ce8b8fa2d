"""A run that goes on with other settings: their stage is done again, what lies before stays, and nothing is mixed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prismkd.cli import main
from prismkd.config import Config
from prismkd.config.ranges import typed_fields
from prismkd.config.stages import FIRST_STAGE, STAGE_OF_SETTINGS, may_change, stage_of
from prismkd.runs.aside import set_results_aside
from tests.files.killing import contents, killed_at

TINY = """
classes = "pictograms-24"
methods = ["real"]
[prompts]
num_probes = 0
num_content_probes = 0
[generator]
num_inference_steps = 2
[guidance]
num_calibration_images = 24
num_views = 1
[synthesis]
images_per_class = 1
shard_size = 24
[distillation]
architecture = "small-resnet-4"
num_steps = 4
batch_size = 8
[evaluation]
cas = true
judge = ""
"""
STEPS = ["--distillation.num-steps", "5"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, few_icons: Path) -> Path:
    """A run of real images alone, which draws nothing; to be copied."""
    folder = tmp_path_factory.mktemp("other-settings")
    icons = f'source = "{few_icons / "test.parquet"}"\nreal = "{few_icons / "real.parquet"}"\n'
    (folder / "tiny.toml").write_text(TINY + icons)
    assert main(["run", "--config", str(folder / "tiny.toml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def student(out: Path, name: str = "student") -> Path:
    return out / "seed-0" / "real" / name


def weights(out: Path) -> dict[str, bytes]:
    return {name: (student(out, name) / "model.safetensors").read_bytes() for name in ("student", "student-of-labels")}


def rows(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())["results"]


# --- distillation ----------------------------------------------------------------------------------------------------


def test_a_run_with_another_recipe_trains_anew_and_keeps_the_old_student_aside(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, old_rows = weights(copied), rows(copied)
    assert main(["distill", "--out", str(copied), *STEPS]) == 0
    shown = capsys.readouterr().err
    assert "another num_steps: the student of before is kept in" in shown and "results of before are kept in" in shown
    assert weights(copied).keys() == before.keys() and weights(copied) != before
    kept = student(copied, "student-num-steps-4")
    assert (kept / "model.safetensors").read_bytes() == before["student"]
    assert json.loads((kept / "evaluation.json").read_text())["results"]
    assert (student(copied, "student-of-labels-num-steps-4") / "log.json").is_file()
    # What the new student hasn't earned is gone until it has.
    assert not [name for name in ("metrics.json", "report.html") if (copied / name).exists()]
    assert not (copied / "seed-0" / "real" / "evaluation.json").exists()
    assert json.loads((copied / "earlier-results" / "metrics.json").read_text())["results"] == old_rows
    assert main(["run", "--out", str(copied)]) == 0
    assert rows(copied) != old_rows and (copied / "report.html").is_file()


def test_the_record_has_the_settings_in_force_and_how_they_came_to_be(copied: Path) -> None:
    assert main(["distill", "--out", str(copied), *STEPS]) == 0
    record = json.loads((copied / "run.json").read_text())
    assert record["config"]["distillation"]["num_steps"] == 5
    (change,) = record["changes"]
    assert change["settings"] == {"distillation.num_steps": {"from": 4, "to": 5}}
    assert change["command"] == f"prismkd distill --out {copied} {' '.join(STEPS)}" and change["date"]
    assert json.loads((student(copied) / "log.json").read_text())["recipe"]["num_steps"] == 5
    assert main(["run", "--out", str(copied)]) == 0
    assert json.loads((copied / "run.json").read_text()) == record
    command = json.loads((copied / "metrics.json").read_text())["command"]
    assert command.splitlines() == [
        record["command"],
        change["command"],
    ]
    assert "--distillation.num-steps 5</code>" in (copied / "report.html").read_text()


def test_a_student_that_is_set_aside_twice_loses_none(copied: Path) -> None:
    for steps in ("5", "4", "5"):
        assert main(["distill", "--out", str(copied), "--distillation.num-steps", steps]) == 0
    names = {path.name for path in student(copied).parent.glob("student-num-steps-*")}
    assert names == {"student-num-steps-4", "student-num-steps-5", "student-num-steps-4-2"}


def test_a_recipe_that_only_says_who_computes_changes_nothing(copied: Path) -> None:
    before = (copied / "run.json").read_bytes(), (student(copied) / "log.json").read_bytes()
    assert main(["distill", "--out", str(copied), "--distillation.num-workers", "1"]) == 0
    assert ((copied / "run.json").read_bytes(), (student(copied) / "log.json").read_bytes()) == before


def test_a_checkpoint_of_another_recipe_is_not_continued(
    copied: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The learning rate can't be seen in a checkpoint's shapes: continued, it would pass unnoticed."""
    rate = ["--distillation.learning-rate"]
    with monkeypatch.context() as patch:
        patch.setattr("prismkd.runs.training.save_classifier", _kill)
        assert main(["distill", "--out", str(copied), *rate, "0.05"]) == 130
    assert (student(copied) / "checkpoint.pt").is_file()
    capsys.readouterr()
    assert main(["distill", "--out", str(copied), *rate, "0.002"]) == 0
    assert "half-trained student of real (seed 0) is deleted" in capsys.readouterr().err
    assert weights(copied) == weights(finished)
    assert not list(copied.rglob("checkpoint.pt")) and not list(copied.rglob("training.json"))


def test_a_checkpoint_of_the_same_recipe_is_continued(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("prismkd.runs.training.save_classifier", _kill)
        assert main(["distill", "--out", str(copied), *STEPS, "--evaluation.no-cas"]) == 130
    monkeypatch.setattr("prismkd.distillation.loop._Training.step", _kill)  # no step is left
    assert main(["distill", "--out", str(copied)]) == 0


def _kill(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_another_evaluation_is_measured_again_and_the_students_stay(copied: Path) -> None:
    before, old = weights(copied), rows(copied)
    assert main(["evaluate", "--out", str(copied), "--evaluation.restrict-below", "0", "--evaluation.no-cas"]) == 0
    assert weights(copied) == before
    assert "cas" in {row["metric"] for row in old} and "cas" not in {row["metric"] for row in rows(copied)}
    assert json.loads((copied / "earlier-results" / "metrics.json").read_text())["results"] == old
    assert main(["run", "--out", str(copied)]) == 0


def test_students_that_are_not_there_yet_are_not_measured(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--out", str(copied), *STEPS]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "expected the student of real (seed 0)" in error and "run `prismkd distill --out" in error
    assert not (copied / "metrics.json").exists()


def test_weights_without_their_log_are_not_measured(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (student(copied) / "log.json").unlink()
    (student(copied).parent / "evaluation.json").unlink()
    assert main(["evaluate", "--out", str(copied)]) == 2
    assert "run `prismkd distill" in capsys.readouterr().err


# --- what may change and what may not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--guidance.strength", "0.1"], "another guidance.strength;"),
        (["--generator.num-inference-steps", "3", *STEPS], "another generator.num_inference_steps;"),
        (["--prompts.id-share", "0.5"], "another prompts.id_share;"),
        (["--seeds", "1"], "another seeds;"),
        (["--methods", "plain"], "another methods;"),
    ],
)
def test_what_images_hang_on_is_refused_and_what_may_change_is_said(
    flags: list[str], named: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copied / "run.json").read_bytes()
    assert main(["run", "--out", str(copied), *flags]) == 2
    error = capsys.readouterr().err
    assert named.rstrip(";") in error and "choose another --out" in error and error.count("\n") == 1
    assert "distillation.* and evaluation.* may change" in error
    assert "methods, seeds, synthesis.images_per_class may grow" in error
    assert (copied / "run.json").read_bytes() == before


def test_methods_and_seeds_are_added_work(copied: Path) -> None:
    before = {path: path.read_bytes() for path in student(copied).rglob("*") if path.is_file()}
    assert main(["run", "--out", str(copied), "--methods", "plain", "real", "--seeds", "0", "7"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    found = {(row["method"], row["seed"]) for row in rows(copied) if row["metric"] == "top1"}
    assert found == {("teacher", 0), ("real", 0), ("real", 7), ("plain", 0), ("plain", 7)}
    assert json.loads((copied / "run.json").read_text())["config"]["seeds"] == [0, 7]


def test_every_setting_has_a_stage_and_each_table_a_setting() -> None:
    assert set(STAGE_OF_SETTINGS) <= set(typed_fields(Config))
    assert stage_of("classes") == stage_of("generator.source") == stage_of("prompts.template") == FIRST_STAGE
    assert may_change("methods", ["plain"], ["prism", "plain"]) and not may_change("methods", ["plain"], ["prism"])
    assert may_change("synthesis.images_per_class", 1, 2) and not may_change("synthesis.images_per_class", 2, 1)
    assert may_change("evaluation.cas", True, False) and not may_change("guidance.ascend", False, True)


# --- a kill between any two steps ------------------------------------------------------------------------------------

MOVES = ("replace", "unlink", "mkdir")  # of os: all that makes a step last; pathlib's go through them


def _killed_before(moves: int, monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """From now on the process dies at the move number ``moves`` of a file of the run."""
    left = [moves]

    def dying(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*arguments: Any, **options: Any) -> Any:
            if str(arguments[0]).startswith(str(out)) and ".locks" not in str(arguments[0]):
                if left[0] == 0:
                    raise KeyboardInterrupt
                done = move(*arguments, **options)
                left[0] -= 1  # one that succeeded: a folder that is there already is no step
                return done
            return move(*arguments, **options)

        return moved

    for name in MOVES:
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def test_a_change_that_is_killed_between_any_two_steps_is_finished_by_the_next_command(
    finished: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, out = ["run", *STEPS, "--evaluation.no-cas", "--out"], copied
    whole = shutil.copytree(finished, tmp_path / "whole")
    assert main([*change, str(whole)]) == 0
    old_evaluation = (student(finished).parent / "evaluation.json").read_bytes()
    codes: list[int] = []
    while not codes or codes[-1] == 130:
        with monkeypatch.context() as patch:
            # At the second to the fifth move: one may only clear away the temporary file of the last kill, and of a
            # student's three files the last one counts.
            _killed_before(1 + len(codes) % 4, patch, out)
            codes.append(main([*change, str(out)]))
        # Whatever a reader finds now, figures lie beside the student that they are of.
        log, evaluation = student(out) / "log.json", student(out).parent / "evaluation.json"
        if evaluation.is_file():
            is_old = evaluation.read_bytes() == old_evaluation
            assert json.loads(log.read_text())["recipe"]["num_steps"] == (4 if is_old else 5)
        if (out / "metrics.json").is_file():
            assert rows(out) == rows(whole if evaluation.read_bytes() != old_evaluation else finished)
        assert len(codes) < 40
    assert codes[-1] == 0 and len(codes) > 8
    assert weights(out)["student"] == weights(whole)["student"] and rows(out) == rows(whole)
    configs = [json.loads((folder / "run.json").read_text())["config"] for folder in (out, whole)]
    assert configs[0] == configs[1]


def test_results_are_set_aside_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.json", "report.html", "metrics.json"):
        (tmp_path / "run" / name).write_text(name)
    (tmp_path / "run" / "earlier-results").symlink_to(tmp_path / "not-there-yet")
    set_results_aside(SimpleNamespace(directory=tmp_path / "run"))  # type: ignore[arg-type]
    kept = contents(tmp_path / "run" / "earlier-results-2")
    assert kept == {"report.html": b"report.html", "metrics.json": b"metrics.json"}
    assert not (tmp_path / "not-there-yet").exists()


def test_results_are_set_aside_together_whenever_it_is_killed(tmp_path: Path) -> None:
    number, is_over = 1, False
    while not is_over:
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("report.html", "metrics.json"):
            (folder / name).write_text(name)
        run = SimpleNamespace(directory=folder)
        with killed_at(number, folder) as killer:
            set_results_aside(run)  # type: ignore[arg-type]
        set_results_aside(run)  # type: ignore[arg-type]
        assert list(folder.iterdir()) == [folder / "earlier-results"]
        assert contents(folder / "earlier-results") == {"report.html": b"report.html", "metrics.json": b"metrics.json"}
        number, is_over = number + 1, killer.count < number
    assert number > 4
