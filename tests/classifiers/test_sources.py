"""Teachers by name, folder and program: they load as their library would, and what doesn't fit is one line."""

from __future__ import annotations

import json
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn
from torchvision import models
from torchvision.transforms.v2.functional import to_pil_image

from prismkd.classifiers import Preprocessing, as_classifier, as_teacher, load_source, load_teacher, weights_digest
from prismkd.classifiers.parity import measure_parity
from prismkd.classifiers.preprocessing import from_timm, from_torchvision, probe_images
from prismkd.config import PreprocessingConfig
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
@pytest.mark.parametrize(
    ("name", "kept"), [("squeezenet1_1", ""), ("mnasnet0_5", ""), ("googlenet", "aux"), ("inception_v3", "Aux")]
)
def test_torchvision_networks_with_heads_of_their_own_kind(tmp_path: Path, name: str, kept: str) -> None:
    arguments = {"init_weights": False} if kept else {}
    network = models.get_model(name, num_classes=7, **arguments).eval()
    left = {key: tensor for key, tensor in network.state_dict().items() if not (kept and key.startswith(kept))}
    for state in (network.state_dict(), left):  # as trained anew, and as trained from torchvision's weights
        torch.save(state, tmp_path / "weights.pth")
        teacher = load_teacher(f"torchvision:{name}@{tmp_path / 'weights.pth'}", [str(label) for label in range(7)])
        images = torch.rand(1, 3, 299, 299)
        assert torch.equal(teacher.network(images), network(images))


def test_a_torchvision_transformer_of_another_size_asks_for_its_preprocessing(tmp_path: Path) -> None:
    torch.save(models.vit_b_32(num_classes=2, image_size=64).state_dict(), tmp_path / "weights.pth")
    source = f"torchvision:vit_b_32@{tmp_path / 'weights.pth'}"
    with pytest.raises(UserError, match=r"expected images of 64 pixels .*; set teacher_preprocessing"):
        load_teacher(source, ["a", "b"])
    by_hand = PreprocessingConfig(resize=(64, 64))
    assert load_teacher(source, ["a", "b"], preprocessing=by_hand).num_classes == 2


@torch.no_grad()
def test_a_transformers_folder(tmp_path: Path) -> None:
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


def save_vit(folder: Path, processor: Any = None, **config: Any) -> Path:
    """A tiny ViT of transformers for three classes, with its processor."""
    torch.manual_seed(0)
    described = hf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                             image_size=32, patch_size=8, **{"num_labels": 3, **config})  # fmt: skip
    hf.ViTForImageClassification(described).save_pretrained(folder)
    (processor or hf.ViTImageProcessor(size={"height": 32, "width": 32})).save_pretrained(folder)
    return folder


def test_a_transformers_folder_without_its_head_is_refused(tmp_path: Path) -> None:
    path = save_vit(tmp_path) / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier.")}
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"got: missing classifier\.bias, classifier\.weight; save the whole classifier"
    ):
        load_teacher(str(tmp_path), ["a", "b", "c"])


@torch.no_grad()
def test_a_transformers_folder_with_pickled_weights_opens_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_vit(tmp_path) / "model.safetensors"
    expected = load_teacher(str(tmp_path), ["a", "b", "c"])(probe_images(2))
    torch.save(load_file(path), tmp_path / "pytorch_model.bin")
    path.unlink()
    assert torch.equal(load_teacher(str(tmp_path), ["a", "b", "c"])(probe_images(2)), expected)
    torch.save({"classifier.bias": Planted()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="expected an image classifier of transformers"):
        load_teacher(str(tmp_path), ["a", "b", "c"])
    assert "the payload ran" not in capsys.readouterr().out


def test_several_labels_per_image_are_refused(tmp_path: Path) -> None:
    save_vit(tmp_path / "vit", problem_type="multi_label_classification")
    with pytest.raises(UserError, match=r"one label per image, got .*vit with problem_type multi_label_classification"):
        load_teacher(str(tmp_path / "vit"), ["a", "b", "c"])
    save_for_hf(timm.create_model("test_resnet", num_classes=3), str(tmp_path / "timm"),
                model_config={"problem_type": "multi_label_classification"})  # fmt: skip
    with pytest.raises(UserError, match="expected a teacher with one label per image"):
        load_teacher(str(tmp_path / "timm"), ["a", "b", "c"])


def test_of_a_trainings_output_the_folder_in_it_is_offered(tmp_path: Path) -> None:
    save_vit(tmp_path / "out" / "checkpoint-100")
    with pytest.raises(UserError, match=r"got .*out; perhaps .*out/checkpoint-100"):
        load_teacher(str(tmp_path / "out"), ["a", "b"])


def test_a_missing_processor_is_set_by_hand(tmp_path: Path) -> None:
    (save_vit(tmp_path) / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"expected an image processor of transformers in .* set teacher_preprocessing"):
        load_teacher(str(tmp_path), ["a", "b", "c"])
    by_hand = PreprocessingConfig(resize=(32, 32), mean=(0.5,), std=(0.25,))
    found = load_teacher(str(tmp_path), ["a", "b", "c"], preprocessing=by_hand).preprocess
    assert found == Preprocessing(3, (32, 32), None, "bilinear", (0.5,), (0.25,))


@torch.no_grad()
def test_a_gray_transformers_folder(tmp_path: Path) -> None:
    processor = hf.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.5])
    teacher = load_teacher(str(save_vit(tmp_path, processor, num_channels=1)), ["a", "b", "c"])
    assert teacher.in_channels == 1 and teacher(probe_images(2)).shape == (2, 3)


# --- timm ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_timm_folder_of_other_channels_size_and_transform(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=3, in_chans=1, img_size=64).eval()
    data = {"input_size": (1, 64, 64), "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear"}
    save_for_hf(network, str(tmp_path), data_config=data)
    found = load_source(str(tmp_path))
    assert found.classifier.preprocess.describe().startswith("gray, to 71 x 71 (bilinear), center 64 x 64")
    parity = measure_parity(found, 2)
    assert parity is not None and parity.holds


def test_a_folder_that_says_nothing_of_images_is_noted(tmp_path: Path) -> None:
    save_for_hf(timm.create_model("test_resnet", num_classes=3), str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    del config["pretrained_cfg"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (note,) = load_source(str(tmp_path)).notes
    assert "says nothing of mean and std: images aren't normalized" in note
    assert load_source(str(tmp_path), preprocessing=PreprocessingConfig(mean=(0.5,), std=(0.5,))).notes == ()


def test_an_interpolation_that_is_not_known_here_is_set_by_hand(tmp_path: Path) -> None:
    save_vit(tmp_path, hf.ViTImageProcessor(size={"height": 32, "width": 32}, resample=1))
    with pytest.raises(UserError, match=r"got 'lanczos'; set teacher_preprocessing"):
        load_teacher(str(tmp_path), ["a", "b", "c"])


def test_a_timm_folder_of_the_old_form(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(network, str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    old = {"architecture": "test_resnet", **config["pretrained_cfg"], "labels": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert load_teacher(str(tmp_path), ["a", "b", "c"]).preprocess == from_timm(network.pretrained_cfg)


@pytest.mark.parametrize(
    "arguments", [{"pretrained": True}, {"pretrained_cfg_overlay": {"url": "http://x"}}, {"checkpoint_path": "/x"}]
)
def test_a_folders_arguments_fetch_nothing(tmp_path: Path, arguments: dict[str, Any]) -> None:
    save_for_hf(timm.create_model("test_resnet", num_classes=3), str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("model_args", "arguments"):
        (tmp_path / "config.json").write_text(json.dumps({**config, name: arguments}))
        assert load_source(str(tmp_path)).classifier.num_classes == 3
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_args": {"no_such": 1}}))
    with pytest.raises(UserError, match=r"expected arguments of test_resnet in .*, got TypeError"):
        load_source(str(tmp_path))


def test_weights_alone_get_the_librarys_preprocessing_and_a_warning(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list("abcde")
    load_teacher(f"timm:test_vit@{weights}", names)
    shown = capsys.readouterr().err
    assert f"timm's own for test_vit, not one of {weights}" in shown and "set teacher_preprocessing" in shown
    network = models.get_model("resnet50", num_classes=5)
    torch.save(network.state_dict(), tmp_path / "resnet50.pth")
    load_teacher(f"torchvision:resnet50@{tmp_path / 'resnet50.pth'}", names)
    shown = capsys.readouterr().err
    assert "ResNet50_Weights.IMAGENET1K_V2" in shown and "shorter side to 232" in shown
    assert (
        "IMAGENET1K_V1 has resize 256, crop 224 and interpolation bilinear; if its training had another, set" in shown
    )
    first = PreprocessingConfig(resize=(256,))
    teacher = load_teacher(f"torchvision:resnet50@{tmp_path / 'resnet50.pth'}", names, preprocessing=first)
    assert teacher.preprocess == from_torchvision(models.ResNet50_Weights.IMAGENET1K_V1.transforms())
    assert capsys.readouterr().err == ""


def test_a_training_says_how_its_images_are_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, names = tmp_path / "last.pth", ["a", "b", "c"]
    arguments = Namespace(img_size=64, crop_pct=1.0, mean=[0.1, 0.2, 0.3], std=None, interpolation="", input_size=None)
    network = timm.create_model("test_vit", num_classes=3, img_size=64)
    torch.save({"state_dict": network.state_dict(), "args": arguments}, path)
    assert load_teacher(f"timm:test_vit@{path}", names).preprocess == Preprocessing(
        3, 64, (64, 64), "bicubic", (0.1, 0.2, 0.3), (0.5, 0.5, 0.5)
    )
    arguments = Namespace(val_resize_size=70, val_crop_size=64, interpolation="bicubic")
    student = models.get_model("shufflenet_v2_x0_5", num_classes=3)
    torch.save({"model": student.state_dict(), "args": arguments}, path)
    found = load_teacher(f"torchvision:shufflenet_v2_x0_5@{path}", names).preprocess
    assert (found.resize, found.crop, found.interpolation) == (70, (64, 64), "bicubic")
    assert capsys.readouterr().err == ""
    torch.save({"state_dict": network.state_dict(), "args": Namespace(img_size="large")}, path)
    with pytest.raises(UserError, match="expected a description of images as timm has it in"):
        load_teacher(f"timm:test_vit@{path}", names)


def test_a_network_of_one_size_is_built_for_the_size_that_is_set(tmp_path: Path) -> None:
    path, names = tmp_path / "vit.pth", ["a", "b", "c"]
    torch.save(timm.create_model("test_vit", num_classes=3, img_size=64).state_dict(), path)
    with pytest.raises(UserError, match=r"of another shape pos_embed .* set teacher_preprocessing to the size of its"):
        load_teacher(f"timm:test_vit@{path}", names)
    teacher = load_teacher(f"timm:test_vit@{path}", names, preprocessing=PreprocessingConfig(resize=(64, 64)))
    assert teacher(torch.rand(2, 3, 90, 70)).shape == (2, 3)


def test_channels_are_those_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=3, in_chans=1).state_dict(), path)
    gray = load_teacher(f"timm:test_resnet@{path}", ["a", "b", "c"])
    assert gray.in_channels == 1 and len(gray.preprocess.mean) == 1
    assert gray(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    save_for_hf(timm.create_model("test_resnet", num_classes=3, in_chans=4), str(tmp_path))
    with pytest.raises(UserError, match=r"gray \(1 channel\) or color \(3\), got one of 4 channels"):
        load_teacher(str(tmp_path), ["a", "b", "c"])


def test_of_a_teacher_that_carries_names_some_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = timm.create_model("test_resnet", num_classes=3).eval()
    save_for_hf(network, str(tmp_path), model_config={"label_names": list("abc")})
    whole, some = load_teacher(str(tmp_path), list("abc")), load_teacher(str(tmp_path), ["C", "a"])
    images = probe_images(2)
    assert torch.equal(some(images), whole(images)[:, [2, 0]])
    assert torch.equal(some.features(images), whole.features(images))
    assert some.num_classes == some.head.out_features == some.config["num_classes"] == 2
    assert weights_digest(some) != weights_digest(whole)
    assert "knows 3 classes, of which the run has 2" in capsys.readouterr().err


def test_the_names_that_a_teacher_carries_are_offered(tmp_path: Path) -> None:
    save_for_hf(
        timm.create_model("test_resnet", num_classes=3), str(tmp_path), model_config={"label_names": list("abc")}
    )
    with pytest.raises(UserError, match=r"got 2 with 'd'; `classes = \"teacher\"` takes all that it carries"):
        load_teacher(str(tmp_path), ["a", "d"])
    with pytest.raises(UserError, match="got 2 with one of them twice"):
        load_teacher(str(tmp_path), ["a", "A"])


def test_a_network_that_is_a_part_of_what_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network, path = timm.create_model("test_resnet", num_classes=3, in_chans=1), tmp_path / "epoch=3.ckpt"
    state = {f"encoder.module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(3)}, "pytorch-lightning_version": "2.6"}, path)
    teacher = load_teacher(f"timm:test_resnet@{path}", ["a", "b", "c"])
    assert torch.equal(teacher.network.fc.weight, network.fc.weight)
    assert "holds more than the network encoder.module., which is used: loss.weight" in capsys.readouterr().err
    twice = {name.replace("encoder", "average"): tensor for name, tensor in state.items()}
    torch.save({"state_dict": {**state, **twice}}, path)
    with pytest.raises(UserError, match=r"one network in .*, got those of 2 \(encoder\.module\., average\.module\.\)"):
        load_teacher(f"timm:test_resnet@{path}", ["a", "b", "c"])


# --- programs, and what is refused -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_teacher_of_probabilities_is_refused(last: nn.Module) -> None:
    network = nn.Sequential(Small(), last).eval()
    for opened in (lambda: as_teacher(network, 3, Preprocessing()), lambda: as_classifier(network, (3, 8, 8))):
        with pytest.raises(UserError, match=r"expected logits of the teacher, got .*probabilities; take the softmax"):
            opened()


def test_the_digest_tells_weights_and_preprocessing_apart() -> None:
    torch.manual_seed(0)
    network = Small().eval()
    first = weights_digest(as_teacher(network, 3, Preprocessing()))
    assert weights_digest(as_teacher(network, 3, Preprocessing())) == first
    assert weights_digest(as_teacher(network, 3, Preprocessing(mean=(0.5,)))) != first
    assert weights_digest(as_teacher(Small().eval(), 3, Preprocessing())) != first
