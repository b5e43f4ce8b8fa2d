"""One timm network, saved in each way that people save theirs, opens with the logits of its own library."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from prismkd.classifiers import Classifier, as_teacher, load_teacher
from prismkd.classifiers.preprocessing import from_timm, probe_images

NAME, CLASSES = "test_resnet", ["ant", "bee", "cat", "dog", "eel"]
Way = Callable[[nn.Module, Path], str]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """As a training leaves it: statistics of its batch norms included."""
    torch.manual_seed(0)
    network = timm.create_model(NAME, num_classes=len(CLASSES))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


@torch.no_grad()
def logits_of_timm(network: nn.Module) -> Tensor:
    """After timm's own transform of the probe images as pictures."""
    stock = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    return network(torch.stack([stock(to_pil_image(image)) for image in probe_images(3)]))


def timm_safetensors(network: nn.Module, folder: Path) -> str:
    save_for_hf(network, str(folder), model_config={"label_names": CLASSES}, safe_serialization=True)
    return str(folder)


def timm_bin(network: nn.Module, folder: Path) -> str:
    save_for_hf(network, str(folder))
    assert (folder / "pytorch_model.bin").is_file()
    return str(folder)


def bare(network: nn.Module, folder: Path) -> str:
    torch.save(network.state_dict(), folder / "weights.pth")
    return f"timm:{NAME}@{folder / 'weights.pth'}"


def training_checkpoint(network: nn.Module, folder: Path) -> str:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    arguments = argparse.Namespace(model=NAME, lr=0.1, output=str(folder), img_size=None, mean=None, interpolation="")
    CheckpointSaver(network, optimizer, arguments, checkpoint_dir=str(folder)).save_checkpoint(3, 71.5)
    return f"timm:{NAME}@{folder / 'last.pth.tar'}"


def compiled_and_distributed(network: nn.Module, folder: Path) -> str:
    state = {f"_orig_mod.module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "model": state}, folder / "weights.pth")
    return f"timm:{NAME}@{folder / 'weights.pth'}"


def averaged(network: nn.Module, folder: Path) -> str:
    last = timm.create_model(NAME, num_classes=len(CLASSES))
    optimizer, arguments = torch.optim.SGD(last.parameters()), argparse.Namespace(model=NAME)
    saver = CheckpointSaver(last, optimizer, arguments, ModelEmaV3(network), checkpoint_dir=str(folder))
    saver.save_checkpoint(3)
    return f"timm:{NAME}@{folder / 'last.pth.tar'}"


def transformers_folder(network: nn.Module, folder: Path) -> str:
    import transformers as hf

    config = hf.TimmWrapperConfig.from_dict(
        {"architecture": NAME, "num_classes": len(CLASSES), "label_names": CLASSES,
         "pretrained_cfg": timm.models.get_pretrained_cfg(NAME).to_dict()}
    )  # fmt: skip
    wrapped = hf.TimmWrapperForImageClassification(config)
    wrapped.timm_model.load_state_dict(network.state_dict())
    wrapped.save_pretrained(folder)
    return str(folder)


WAYS: list[Way] = [
    timm_safetensors, timm_bin, bare, training_checkpoint, compiled_and_distributed, averaged, transformers_folder,
]  # fmt: skip


def assert_same_logits(teacher: Classifier, network: nn.Module) -> None:
    expected = logits_of_timm(network)
    with torch.no_grad():
        found = teacher(probe_images(3))
    assert (found - expected).abs().max() < 1e-3 * expected.std()
    assert torch.equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("save", WAYS)
def test_it_opens_with_the_logits_of_its_own_library(save: Way, network: nn.Module, tmp_path: Path) -> None:
    assert_same_logits(load_teacher(save(network, tmp_path), CLASSES), network)


def test_the_module_itself_has_them_too(network: nn.Module) -> None:
    assert_same_logits(as_teacher(network, len(CLASSES), from_timm(network.pretrained_cfg)), network)
