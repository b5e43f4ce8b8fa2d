"""A checkpoint that is damaged or somebody else's is set aside, and the training gives what it gives without one."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prismkd.distillation import new_student, train
from prismkd.distillation.state import State, StudentWithProjection
from prismkd.errors import UserError
from tests.distillation.worlds import CONFIG, bright_side, halves, ignore

SHORT = replace(CONFIG, num_steps=4, batch_size=4)
SGD = replace(SHORT, optimizer="sgd", learning_rate=0.02)


class Running:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (os.environ["MARKER"],)


def trained(checkpoint: Path | None, config: Any = SHORT) -> dict[str, Tensor]:
    student = new_student(config, 2, 1, seed=0)
    train(student, bright_side(), halves(8), config, 0, checkpoint, ignore)
    return student.state_dict()


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return trained(None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a student that is not the one which the seed gives: going on from it would show."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.pt"
    config = replace(SHORT, num_steps=3)
    train(new_student(config, 2, 1, seed=7), bright_side(), halves(8), config, 0, path, ignore)
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    found = torch.load(path, weights_only=True)
    change(found)
    torch.save(found, path)


def first_tensor(found: dict[str, Any]) -> str:
    return next(iter(found["model"]))


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 16
    path.write_bytes(data)


def compressed(path: Path) -> None:
    """The same archive, with zeros of any size that take no room."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def in_place_of(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte more at the start": lambda path: path.write_bytes(b"x" + path.read_bytes()[: path.stat().st_size // 2]),
    "a bit in the weights": lambda path: flip(path, 0.5),
    "a bit in the pickle": lambda path: flip(path, 0.02),
    "text": lambda path: path.write_text("checkpoint"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"model": {}})),
    "code": lambda path: torch.save({"model": Running()}, path),
    "code, old format": lambda path: torch.save(Running(), path, _use_new_zipfile_serialization=False),
    "compressed": compressed,
    "a folder": lambda path: in_place_of(path, Path.mkdir),
    "a pipe": lambda path: in_place_of(path, os.mkfifo),
    "a link to nothing": lambda path: in_place_of(path, lambda own: own.symlink_to(own.parent / "none")),
    "a list": lambda path: torch.save([1, 2], path),
    "a key missing": lambda path: changed(path, lambda found: found.pop("sums")),
    "a weight missing": lambda path: changed(path, lambda found: found["model"].pop(first_tensor(found))),
    "a weight of another shape": lambda path: changed(
        path, lambda found: found["model"].update({first_tensor(found): torch.zeros(3)})
    ),
    "a weight of another type": lambda path: changed(
        path, lambda found: found["model"].update({first_tensor(found): found["model"][first_tensor(found)].half()})
    ),
    "a sparse weight": lambda path: changed(
        path, lambda found: found["average"].update({first_tensor(found): torch.zeros(3, 3).to_sparse()})
    ),
    "an average missing": lambda path: changed(path, lambda found: found["average"].clear()),
    "a negative step": lambda path: changed(path, lambda found: found.update(step=-1)),
    "a step beyond the last": lambda path: changed(path, lambda found: found.update(step=99)),
    "half a step": lambda path: changed(path, lambda found: found.update(step=1.5)),
    "a step as a truth": lambda path: changed(path, lambda found: found.update(step=True)),
    "a log of texts": lambda path: changed(path, lambda found: found.update(log=["step 1"])),
    "sums of another number": lambda path: changed(path, lambda found: found.update(sums=torch.zeros(3))),
    "no optimizer": lambda path: changed(path, lambda found: found.update(optimizer=None)),
    "a parameter too many": lambda path: changed(path, lambda found: found["optimizer"]["state"].update({99: {}})),
    "a moment missing": lambda path: changed(path, lambda found: found["optimizer"]["state"][0].pop("exp_avg")),
    "a moment of another shape": lambda path: changed(
        path, lambda found: found["optimizer"]["state"][0].update(exp_avg=torch.zeros(5))
    ),
    "a scaler": lambda path: changed(path, lambda found: found.update(scaler={"scale": 2.0})),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_of_no_use_is_kept_aside_and_the_training_equals_an_uninterrupted_one(
    damage: str, whole: Path, expected: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    path = tmp_path / "checkpoint.pt"
    shutil.copyfile(whole, path)
    DAMAGE[damage](path)
    result = trained(path)
    assert all(torch.equal(result[name], tensor) for name, tensor in expected.items())
    (warning,) = capsys.readouterr().err.strip().splitlines()
    assert f" warning: expected a checkpoint of this training in {path}, got " in warning
    assert warning.endswith("it is kept as checkpoint-damaged.pt, and the training begins anew")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-damaged.pt", "checkpoint.pt"], "no code ran, and both are kept"


def test_a_checkpoint_of_another_optimizer_is_set_aside(whole: Path, tmp_path: Path) -> None:
    shutil.copyfile(whole, tmp_path / "checkpoint.pt")
    result, expected = trained(tmp_path / "checkpoint.pt", SGD), trained(None, SGD)
    assert all(torch.equal(result[name], tensor) for name, tensor in expected.items())
    assert (tmp_path / "checkpoint-damaged.pt").read_bytes() == whole.read_bytes()


def test_what_is_set_aside_replaces_nothing(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in range(3):
        path.write_text(f"{number}")
        trained(path)
    kept = ["checkpoint-damaged.pt", "checkpoint-damaged-2.pt", "checkpoint-damaged-3.pt"]
    assert [(tmp_path / name).read_text() for name in kept] == ["0", "1", "2"]


def test_a_whole_checkpoint_is_gone_on_from(whole: Path, expected: dict[str, Tensor], tmp_path: Path) -> None:
    shutil.copyfile(whole, tmp_path / "checkpoint.pt")
    result = trained(tmp_path / "checkpoint.pt")
    assert not all(torch.equal(result[name], tensor) for name, tensor in expected.items())
    assert not (tmp_path / "checkpoint-damaged.pt").exists()


@pytest.mark.parametrize("config", [SHORT, SGD], ids=["adamw", "sgd"])
def test_a_checkpoint_decides_nothing_about_the_recipe(config: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    trained(path, config)

    def harmful(found: dict[str, Any]) -> None:
        found["optimizer"]["param_groups"][0].update(weight_decay=1e9, lr=1e9, maximize=True)

    changed(path, harmful)
    state = State(StudentWithProjection(new_student(config, 2, 1, seed=0)), config, torch.device("cpu"))
    before = state.optimizer.state_dict()["param_groups"]
    state.restore(path)
    assert state.optimizer.state_dict()["param_groups"] == before and state.step == config.num_steps


def test_a_checkpoint_that_the_machine_cannot_read_stays(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    shutil.copyfile(whole, path)
    real_open = Path.open

    def failing(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if self == path and "r" in mode:
            raise OSError(24, "Too many open files")
        return real_open(self, mode, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing)
        with pytest.raises(UserError, match=r"expected to read .*, got: Too many open files"):
            trained(path)
    assert path.read_bytes() == whole.read_bytes()
