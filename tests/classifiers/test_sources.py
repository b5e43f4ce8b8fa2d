"""Teachers by name, folder and program: they load as their library would, and what doesn't fit is one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.transforms.v2.functional import to_pil_image

from prismkd.classifiers import Preprocessing, as_teacher, load_source, load_teacher, weights_digest
from prismkd.classifiers.preprocessing import probe_images
from prismkd.errors import UserError


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("the payload ran",)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of timm's test_vit with five classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(timm.create_model("test_vit", num_classes=5).state_dict(), path)
    return path


@torch.no_grad()
def test_a_timm_model_with_a_local_checkpoint(weights: Path) -> None:
    teacher = load_source(f"timm:test_vit@{weights}").classifier
    network = timm.create_model("test_vit", num_classes=5, checkpoint_path=str(weights)).eval()
    stock = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    images = probe_images(3)
    expected = network(torch.stack([stock(to_pil_image(image)) for image in images]))
    assert teacher.num_classes == 5
    assert torch.allclose(teacher(images), expected, atol=1e-3)
    assert teacher.features(images).shape == (3, network.num_features)


@torch.no_grad()
def test_a_torchvision_model_with_a_wrapped_state_dict(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.get_model("shufflenet_v2_x0_5", num_classes=4).eval()
    state = {f"module.{name}": tensor.half() for name, tensor in network.half().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "weights.pth")
    teacher = load_source(f"torchvision:shufflenet_v2_x0_5@{tmp_path / 'weights.pth'}").classifier
    images = torch.rand(2, 3, 256, 256).mul(255).round().div(255)
    transform = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.transforms()
    assert teacher.num_classes == 4
    assert torch.allclose(teacher(images), network.float()(transform(images)), atol=1e-3)
    assert torch.allclose(teacher.head(teacher.features(images)), teacher(images), atol=1e-5)


@torch.no_grad()
def test_a_transformers_folder(tmp_path: Path) -> None:
    import transformers as hf

    torch.manual_seed(0)
    config = hf.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4, id2label={0: "cat", 1: "dog", 2: "eel"},
                               label2id={"cat": 0, "dog": 1, "eel": 2})  # fmt: skip
    network = hf.ConvNextForImageClassification(config).eval()
    network.save_pretrained(tmp_path)
    processor = hf.ConvNextImageProcessor(size={"shortest_edge": 64})
    processor.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path), ["cat", "dog", "eel"])
    images = probe_images(2)
    ready = processor(images=[to_pil_image(image) for image in images], return_tensors="pt")
    assert torch.allclose(teacher(images), network(**ready).logits, atol=1e-3)
    assert torch.allclose(teacher.head(teacher.features(images)), teacher(images), atol=1e-5)


class Small(nn.Module):
    """Mean colors to three logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean((2, 3)))


@pytest.mark.parametrize("kind", ["exported", "torchscript"])
def test_a_program_is_opened_only_on_trust(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network, path = Small().eval(), tmp_path / ("model.pt2" if kind == "exported" else "model.pt")
    example = torch.rand(2, 3, 8, 8)
    if kind == "exported":
        dynamic = {
            "images": {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
        }
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=dynamic), path)
    else:
        torch.jit.trace(network, example).save(str(path))
    path.with_suffix(".json").write_text(json.dumps({"num_classes": 3, "in_channels": 3, "mean": [0.5], "std": [0.5]}))
    with pytest.raises(UserError, match=f"expected --trust for {path}"):
        load_source(f"{kind}:{path}")
    teacher = load_teacher(f"{kind}:{path}", ["a", "b", "c"], trust=True)
    assert "running code" in capsys.readouterr().err
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    logits = teacher(images)
    assert torch.allclose(logits, network((images - 0.5) / 0.5), atol=1e-6)
    logits.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_what_is_no_state_dict_is_refused_and_no_payload_runs(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted.pt").write_bytes(pickle.dumps({"weight": Planted()}))
    with pytest.raises(UserError, match=r"expected a state dict in .*planted\.pt, got a pickle that needs more than"):
        load_source(f"timm:test_vit@{tmp_path / 'planted.pt'}")
    assert capsys.readouterr().out == ""
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"expected a state dict \(tensors by name\) .* got a list"):
        load_source(f"timm:test_vit@{tmp_path / 'list.pt'}")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"expected weights in .*cut\.safetensors"):
        load_source(f"timm:test_vit@{tmp_path / 'cut.safetensors'}")


def test_other_weights_are_listed_shortly(weights: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_source(f"timm:test_vit2@{weights}")
    text = str(caught.value)
    assert text.startswith(f"expected weights of timm's test_vit2 in {weights}, got: ") and len(text) < 600
    assert " more" in text


def test_wrong_names_offer_near_ones(weights: Path) -> None:
    with pytest.raises(UserError, match="got 'resnet81'; perhaps resnet"):
        load_source("timm:resnet81@x")
    with pytest.raises(UserError, match="expected a torchvision classifier, got 'resnet_50'; perhaps resnet50"):
        load_source("torchvision:resnet_50@x")
    with pytest.raises(UserError, match="such as timm:resnet50@"):
        load_source(str(weights))
    with pytest.raises(UserError, match="expected a class list with 5 names"):
        load_teacher(f"timm:test_vit@{weights}", ["a", "b"])


def test_a_users_own_module() -> None:
    network = Small().eval()
    teacher = as_teacher(network, 3, Preprocessing(3, (8, 8)))
    assert teacher(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(UserError, match=r"evaluation mode, got one in training mode; call teacher\.eval\(\)"):
        as_teacher(Small(), 3, Preprocessing())
    with pytest.raises(UserError, match=r"float32 on a CPU, got float16; call teacher\.float\(\)"):
        as_teacher(Small().eval().half(), 3, Preprocessing())
    with pytest.raises(UserError, match=r"expected finite logits \(1, 5\) of the teacher, got \(1, 3\)"):
        as_teacher(network, 5, Preprocessing())
    with pytest.raises(UserError, match="expected a teacher that takes images"):
        as_teacher(nn.Sequential(nn.Conv2d(1, 3, 3), Small()).eval(), 3, Preprocessing(3))


def test_the_digest_tells_weights_and_preprocessing_apart() -> None:
    torch.manual_seed(0)
    network = Small().eval()
    first = weights_digest(as_teacher(network, 3, Preprocessing()))
    assert weights_digest(as_teacher(network, 3, Preprocessing())) == first
    assert weights_digest(as_teacher(network, 3, Preprocessing(mean=(0.5,)))) != first
    assert weights_digest(as_teacher(Small().eval(), 3, Preprocessing())) != first
