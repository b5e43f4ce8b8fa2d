"""A teacher of another kind for the embedded classes: without batch norm, trained on the same real icons."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.embedded import real_images
from benchmarks.pictograms.classifiers import HALF, fit
from prismkd import Session
from prismkd.classifiers import Classifier, load_classifier, save_classifier

SHAPE = {
    "architecture": "convnext_atto", "in_channels": 3, **HALF,
    "arguments": {"patch_size": 4, "depths": [1, 1, 2, 1], "dims": [40, 80, 160, 160]},
}  # fmt: skip
NUM_STEPS, LEARNING_RATE = 1500, 2e-3


def second_teacher(session: Session, folder: Path) -> Classifier:
    """The teacher, which is trained once and kept in ``folder``."""
    if not (folder / "model.safetensors").is_file():
        real, config = real_images(session), {**SHAPE, "num_classes": len(session.classes)}
        torch.manual_seed(0)
        save_classifier(folder, fit(config, real.images, real.labels, NUM_STEPS, LEARNING_RATE), config)
    return load_classifier(folder)
