"""Which files with weights open, what is taken of them, and what is refused with its name."""

from __future__ import annotations

import argparse
import collections
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from prismkd.classifiers.checkpoint import load_weights, part_for, read_checkpoint, read_state_dict
from prismkd.errors import UserError


def weights(value: float, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}fc.weight": torch.full((2, 3), float(value)), f"{prefix}fc.bias": torch.zeros(2)}


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


@pytest.mark.parametrize(
    "average", [{"decay": 0.9, "shadow": weights(2)}, {"module": weights(2, "module."), "updates": 3},
                {"decay": 0.9, "state_dict": weights(2, "_orig_mod.")}],
)  # fmt: skip
@pytest.mark.parametrize("key", ["ema", "swa_model", "params_ema", "model_ema"])
def test_averaged_weights_are_found_within_what_averages_them(tmp_path: Path, average: Any, key: str) -> None:
    found = read_checkpoint(saved(tmp_path, {"model": weights(1), key: average}))
    assert found.state["fc.weight"][0, 0] == 2 and f"holds averaged weights ({key}." in found.notes[0]


def test_an_average_of_parameters_alone_is_completed_by_the_last_weights(tmp_path: Path) -> None:
    last = weights(1, "module.") | {"module.bn.running_mean": torch.full((2,), 7.0)}
    found = read_checkpoint(saved(tmp_path, {"model": last, "ema": {"shadow": weights(2)}}))
    assert found.state["fc.weight"][0, 0] == 2 and found.state["bn.running_mean"][0] == 7
    assert "bn.running_mean are among the last ones alone" in found.notes[0]


def test_an_average_without_names_is_said_to_be_left_out(tmp_path: Path) -> None:
    average = {"decay": 0.9, "shadow_params": list(weights(2).values())}
    found = read_checkpoint(saved(tmp_path, {"model": weights(1), "ema": average}))
    assert found.state["fc.weight"][0, 0] == 1
    assert "averaged weights without names (ema), which can't be used: these are the last ones" in found.notes[0]


@pytest.mark.parametrize("key", ["weights", "params", "net_state_dict", "best_state_dict"])
def test_weights_stand_under_any_key_where_they_are_the_only_ones(tmp_path: Path, key: str) -> None:
    optimizer = torch.optim.Adam(nn.Linear(3, 2).parameters()).state_dict()
    content = {key: weights(1), "optimizer": optimizer, "meter": {"mean": torch.zeros(2)}, "epoch": 3}
    assert set(read_checkpoint(saved(tmp_path, content)).state) == {"fc.weight", "fc.bias"}
    assert set(read_checkpoint(saved(tmp_path, {"model": {key: weights(1)}})).state) == {"fc.weight", "fc.bias"}


def test_of_several_weights_none_is_chosen_by_chance(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got those of 2 \(encoder, head\); save the state dict"):
        read_checkpoint(saved(tmp_path, {"encoder": weights(1), "head": weights(2)}))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_what_wraps_inner_modules_goes_from_their_names(tmp_path: Path, wrapper: str) -> None:
    content = weights(1) | {f"layer.{wrapper}.0.weight": torch.zeros(2, 2)}
    assert set(read_checkpoint(saved(tmp_path, content)).state) == {"fc.weight", "fc.bias", "layer.0.weight"}


def test_the_content_of_a_file_counts_and_not_its_suffix(tmp_path: Path) -> None:
    torch.save(weights(1), tmp_path / "torchs.safetensors")
    safetensors.torch.save_file(weights(1), tmp_path / "safe.pth")
    for name in ("torchs.safetensors", "safe.pth"):
        assert set(read_checkpoint(tmp_path / name).state) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"), ("<html>404", "got text")],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_text_in_place_of_weights_is_called_one(tmp_path: Path, text: str, said: str, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_checkpoint(path)


def test_losses_metrics_and_auxiliary_heads_are_left_out_but_no_layer_is() -> None:
    network = nn.Sequential(collections.OrderedDict(fc=nn.Linear(3, 2)))
    extra = {"aux_head.weight": torch.zeros(2, 2), "criterion.weight": torch.ones(2), "train_acc.total": torch.ones(1)}
    own, (note,) = part_for(network, weights(1) | extra, Path("a.pth"))
    load_weights(network, own, "a")
    assert "holds more than the network, which is used: aux_head.weight, criterion.weight" in note
    other, _ = part_for(network, weights(1) | {"norm_pre.weight": torch.ones(3)}, Path("a.pth"))
    with pytest.raises(UserError, match=r"unknown norm_pre\.weight"):
        load_weights(network, other, "a")
