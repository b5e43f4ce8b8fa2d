"""Judges: any network with features measures images; only a classifier of the run's classes also recognizes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

from prismkd.classifiers import load_judge
from prismkd.classifiers.preprocessing import probe_images
from prismkd.errors import UserError

NAMES = list("abcdefg")


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def headless(request: pytest.FixtureRequest) -> nn.Module:
    """A network of timm without a head, with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(request.param, num_classes=0).eval()


@torch.no_grad()
def features_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """As timm gives them after its own transform."""
    from torchvision.transforms.v2.functional import to_pil_image

    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    return network(torch.stack([transform(to_pil_image(image)) for image in images]))


def test_a_headless_network_by_name_and_file_has_timms_features(headless: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(headless.state_dict(), path)
    judge = load_judge(f"timm:{headless.pretrained_cfg['architecture']}@{path}", NAMES[:7])
    images = probe_images(3)
    assert judge.num_classes == 0
    with torch.no_grad():
        torch.testing.assert_close(judge.features(images), features_of(headless, images), atol=1e-3, rtol=1e-3)


def test_a_headless_folder_of_timm_has_its_features(headless: nn.Module, tmp_path: Path) -> None:
    save_for_hf(headless, str(tmp_path), safe_serialization=True)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    assert config["num_classes"] == 0
    del config["model_args"]  # as older versions of timm write it
    path.write_text(json.dumps(config))
    judge = load_judge(str(tmp_path), NAMES[:7])
    images = probe_images(3)
    with torch.no_grad():
        torch.testing.assert_close(judge.features(images), features_of(headless, images), atol=1e-3, rtol=1e-3)


def test_a_classifier_of_other_classes_measures_by_its_features_which_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), path)
    judge = load_judge(f"timm:test_resnet@{path}", NAMES[:7])
    assert judge.num_classes == 5 and judge.features(probe_images(2)).shape[0] == 2
    assert "knows 5 other classes than the run's 7" in capsys.readouterr().err
    load_judge(f"timm:test_resnet@{path}", NAMES[:5])
    assert capsys.readouterr().err == ""


def test_what_gives_no_features_is_refused(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    for name, problem in (("test_vit", "a head"), ("test_resnett", "perhaps test_resnet")):
        save_file(state, tmp_path / "weights.safetensors")
        with pytest.raises(UserError, match=problem):
            load_judge(f"timm:{name}@{tmp_path / 'weights.safetensors'}", NAMES[:7])
    broken = {key: torch.full_like(value, -1.0) if value.is_floating_point() else value
              for key, value in state.items()}  # fmt: skip
    save_file(broken, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="expected a judge with features before its last layer, got timm:test_resnet@"):
        load_judge(f"timm:test_resnet@{tmp_path / 'weights.safetensors'}", NAMES[:7])
