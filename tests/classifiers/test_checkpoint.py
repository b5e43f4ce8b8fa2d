"""Which files with weights open, what is taken of them, and what is refused with its name."""

from __future__ import annotations

import argparse
import collections
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prismkd.classifiers.checkpoint import read_checkpoint, read_state_dict
from prismkd.errors import UserError


def weights(value: float, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}fc.weight": torch.full((2, 3), value), f"{prefix}fc.bias": torch.zeros(2)}


def saved(folder: Path, content: Any, **how: Any) -> Path:
    torch.save(content, folder / "checkpoint.pth", **how)
    return folder / "checkpoint.pth"


def test_a_training_keeps_its_arguments_its_figures_and_its_state(tmp_path: Path) -> None:
    content = {
        "state_dict": weights(1), "args": argparse.Namespace(img_size=64, output=pathlib.Path("out")),
        "best": np.float64(71.5), "loss": np.float32(0.5), "rng": np.random.default_rng(0).random(3), "epoch": 4,
    }  # fmt: skip
    for zipped in (True, False):
        found = read_checkpoint(saved(tmp_path, content, _use_new_zipfile_serialization=zipped))
        assert set(found.state) == {"fc.weight", "fc.bias"}
        assert found.arguments["img_size"] == 64 and found.notes == ()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_class_that_is_not_allowed_is_named_in_full(tmp_path: Path, zipped: bool) -> None:
    path = saved(
        tmp_path, {"state_dict": weights(1), "optimizer": torch.optim.lr_scheduler.CosineAnnealingWarmRestarts},
        _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    with pytest.raises(UserError, match=r" needs torch\.optim\.lr_scheduler\.CosineAnnealingWarmRestarts, which could"):
        read_checkpoint(path)


def test_of_many_classes_three_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs collections\.deque, .* and \d+ more, which could run any code; save"):
        read_checkpoint(saved(tmp_path, [collections.deque(), nn.Linear(2, 2), nn.ReLU(), nn.Tanh()]))


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict", "ema"])
def test_averaged_weights_come_first_and_it_is_said(
    tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = read_state_dict(saved(tmp_path, {"model": weights(1), "state_dict": weights(1), key: weights(2)}))
    assert state["fc.weight"][0, 0] == 2
    shown = capsys.readouterr().err
    assert f"holds averaged weights ({key}), which are used, not the last ones" in shown and shown.count("\n") == 1


def test_torchs_averaged_model_loses_its_counter(tmp_path: Path) -> None:
    average = torch.optim.swa_utils.AveragedModel(nn.Sequential(collections.OrderedDict(fc=nn.Linear(3, 2))))
    assert "n_averaged" in average.state_dict()
    for content in ({"model": weights(1), "model_ema": average.state_dict()}, average.state_dict()):
        assert set(read_checkpoint(saved(tmp_path, content)).state) == {"fc.weight", "fc.bias"}


def test_what_is_no_average_of_weights_is_passed_over(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path, {"model": weights(1), "model_ema": {"decay": 0.99}, "ema": None}))
    assert found.state["fc.weight"][0, 0] == 1 and found.notes == ()


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.module.", "module._orig_mod.", "model._orig_mod.module.", "module.module.", "net."]
)
def test_prefixes_go_until_none_is_left(tmp_path: Path, prefix: str) -> None:
    assert set(read_checkpoint(saved(tmp_path, weights(1, prefix))).state) == {"fc.weight", "fc.bias"}
