"""Classifier folders: round trip, differentiable preprocessing, and what is refused."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from prismkd.classifiers import (
    Classifier,
    Preprocessing,
    load_classifier,
    load_teacher,
    predict,
    save_classifier,
)
from prismkd.classifiers.networks import SmallResNet, new_network, size_arguments
from prismkd.errors import UserError
from tests.files.killing import contents, small_files

CONFIG = {"architecture": "small-resnet-4", "num_classes": 3, "in_channels": 1}


def save(folder: Path, **changes: object) -> Path:
    torch.manual_seed(0)
    save_classifier(folder, SmallResNet(3, 4), {**CONFIG, **changes})
    return folder


@pytest.mark.parametrize(("side", "num_halvings"), [(None, 1), (16, 1), (32, 1), (64, 2), (128, 3), (224, 4)])
def test_a_small_network_halves_images_until_16_pixels_are_left(side: int | None, num_halvings: int) -> None:
    arguments = size_arguments("small-resnet-4", side)
    assert arguments == ({} if num_halvings == 1 else {"num_halvings": num_halvings})
    features = new_network("small-resnet-4", 3, **arguments).forward_features(torch.zeros(1, 1, side or 32, side or 32))
    assert features.shape[2:] == {16: (2, 2)}.get(side or 32, (4, 4)) and features.shape[1] == 16


def test_the_narrowest_network_still_sees_large_images() -> None:
    network = new_network("small-resnet-1", 3, **size_arguments("small-resnet-1", 64)).eval()
    assert not torch.equal(network(torch.zeros(1, 1, 64, 64)), network(torch.rand(1, 1, 64, 64)))


@pytest.mark.parametrize("arguments", [{"num_halvings": 60_000}, {"num_halvings": -1}, {"num_halvings": "2"}, {"x": 1},
                                       {"num_halvings": 2.5}, {"num_halvings": None}])  # fmt: skip
def test_arguments_that_shape_no_small_network_are_one_line(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"expected .*small-resnet-4"):
        load_classifier(save(tmp_path, arguments=arguments))


def test_round_trip_keeps_the_logits_to_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SmallResNet(3, 4).eval()
    save_classifier(tmp_path, network, CONFIG)
    images = torch.rand(5, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_classifier(tmp_path)(images), network(images), atol=1e-2)


def test_preprocessing_matches_channels_size_and_normalization(tmp_path: Path) -> None:
    teacher = load_classifier(save(tmp_path, input_size=32, mean=[0.5], std=[0.25]))
    color = torch.rand(2, 3, 64, 64)
    ready = teacher.preprocess(color)
    assert ready.shape == (2, 1, 32, 32)
    assert torch.allclose(ready.mean(), (color.mean() - 0.5) / 0.25, atol=0.02)


def test_gradients_reach_the_image_and_leave_the_weights(tmp_path: Path) -> None:
    teacher = load_classifier(save(tmp_path))
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    teacher(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_what_does_not_fit_is_one_clear_error(tmp_path: Path) -> None:
    folder = save(tmp_path / "teacher")
    with pytest.raises(UserError, match="expected a class list with 3 names"):
        load_teacher(str(folder), ["cat", "dog"])
    save(tmp_path / "other", architecture="small-resnet-8")
    with pytest.raises(UserError, match="expected weights of small-resnet-8"):
        load_classifier(tmp_path / "other")
    save(tmp_path / "typo", architecture="resnet81")
    with pytest.raises(UserError, match="perhaps resnet18"):
        load_classifier(tmp_path / "typo")
    (folder / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match=r"expected a state dict in .*, got a pickle"):
        load_classifier(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="architecture and num_classes"):
        load_classifier(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"with config\.json"):
        load_classifier(folder)


def test_a_folder_as_timm_writes_it_brings_its_preprocessing(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    save_classifier(tmp_path, network, {
        "architecture": "test_resnet", "num_classes": 5,
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]},
    })  # fmt: skip
    found = load_classifier(tmp_path)
    assert found.preprocess == Preprocessing(3, 73, (64, 64), "bicubic", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


def test_a_prediction_leaves_every_module_in_its_mode() -> None:
    """Also where they differ: a wrapper that is new, and so in training mode, around a network in evaluation mode."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3)).eval()
    classifier = Classifier(network, {"num_classes": 3, "in_channels": 1})
    assert classifier.training and not network.training
    statistics = network[2].running_mean.clone()
    predict(classifier, torch.rand(4, 1, 4, 4))
    assert classifier.training and not any(module.training for module in network.modules())
    assert torch.equal(network[2].running_mean, statistics)


def test_a_full_disk_leaves_the_weights_of_before(tmp_path: Path) -> None:
    network = new_network("small-resnet-4", 3, 1)
    config = {"architecture": "small-resnet-4", "num_classes": 3, "in_channels": 1}
    save_classifier(tmp_path, network, config)
    before = contents(tmp_path)
    with small_files(1000), pytest.raises(UserError, match=r"expected room for .*model\.safetensors, got: File too"):
        save_classifier(tmp_path, network, config)
    assert contents(tmp_path) == before


def test_no_student_is_saved_through_a_link_of_a_received_run(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("mine")
    folder = tmp_path / "run" / "seed-0" / "plain" / "student"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    (folder / "config.json").symlink_to(tmp_path / "own.json")
    config = {"architecture": "small-resnet-4", "num_classes": 3, "in_channels": 1}
    save_classifier(folder, new_network("small-resnet-4", 3, 1), config)
    assert (tmp_path / "own.json").read_text() == "mine" and load_classifier(folder).num_classes == 3
