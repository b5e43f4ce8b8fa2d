"""Students: by name, and from the weights of others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prismkd.classifiers import save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.config import DistillationConfig
from prismkd.distillation import new_student
from prismkd.errors import UserError

CONFIG = DistillationConfig(architecture="small-resnet-4")


def test_a_name_of_timm_with_and_without_its_prefix_is_the_same_network() -> None:
    plain, prefixed = (
        new_student(replace(CONFIG, architecture=name), 5, 1, seed=1) for name in ("resnet10t", "timm:resnet10t")
    )
    for a, b in zip(plain.state_dict().values(), prefixed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UserError, match="perhaps resnet18"):
        new_network("timm:resnet18x", 5)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "wrapped", "folder"])
def test_weights_to_start_from(tmp_path: Path, kind: str) -> None:
    source = new_network("small-resnet-4", 5)
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(source.state_dict(), path)
    elif kind == "folder":
        path = tmp_path / "student"
        save_classifier(path, source, {"architecture": "small-resnet-4", "num_classes": 5, "in_channels": 1})
    else:
        state = source.state_dict()
        wrapped = {"model": {f"module.{name}": tensor for name, tensor in state.items()}}
        torch.save(state if kind == "state dict" else wrapped, path)
    student = new_student(replace(CONFIG, initial=str(path)), 5, 1, seed=0)
    for a, b in zip(student.state_dict().values(), source.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-3)  # a folder holds float16


def test_a_head_of_other_classes_is_replaced_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = new_network("small-resnet-4", 9)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    student = new_student(replace(CONFIG, initial=str(tmp_path / "w.pt")), 5, 1, seed=0)
    untrained = new_student(CONFIG, 5, 1, seed=0).state_dict()
    found = student.state_dict()
    assert "ends in 9 classes and the student in 5" in capsys.readouterr().err
    assert torch.equal(found["head.weight"], untrained["head.weight"])
    assert torch.equal(found["features.0.weight"], source.state_dict()["features.0.weight"])


def test_other_networks_and_code_are_refused(tmp_path: Path) -> None:
    def attempt(content: object, match: str) -> None:
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(UserError, match=match) as caught:
            new_student(replace(CONFIG, initial=str(tmp_path / "w.pt")), 5, 1, seed=0)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    attempt(nn.Linear(2, 2), "state dict")
    attempt({"weights": [1, 2]}, "state dict")
    attempt(new_network("resnet10t", 5).state_dict(), "missing")
    with pytest.raises(UserError, match="check the path"):
        new_student(replace(CONFIG, initial=str(tmp_path / "none.pt")), 5, 1, seed=0)
