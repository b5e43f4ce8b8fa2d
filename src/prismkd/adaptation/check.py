"""What the teacher says of the images that an adapter draws: how far adaptation has come, and when it goes too far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prismkd.classifiers import Classifier
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance import Calibration
from prismkd.guidance.teacher_energy import TeacherEnergy
from prismkd.metrics import vendi_score
from prismkd.prompts import Prompt
from prismkd.synthesis.synthesizer import Synthesizer

IMAGES_PER_CLASS = 12  # whose diversity is one figure


@dataclass(frozen=True)
class Check:
    """Means over images of fixed prompts and seeds.

    Attributes:
        step: of the training, after which they were drawn; 0 is without an adapter.
        energy: what guidance lowers, ``guidance.energy``.
        agreement: share of images that the teacher assigns to the prompted class.
        diversity: Vendi score of the teacher's features within a class, from 1 to 12; of its logits where it has none.
    """

    step: int
    energy: float
    agreement: float
    diversity: float


@torch.no_grad()
def check_images(
    synthesizer: Synthesizer, prompts: Sequence[Prompt], guidance: GuidanceConfig, calibration: Calibration, step: int
) -> Check:
    """Draw the prompts, by the generator as it is now, and let the teacher look at them.

    Args:
        synthesizer: the generator and the teacher, and perhaps guidance.
        prompts: 12 of a class, then 12 of the next.
        guidance: says which energy.
        calibration: its targets.
        step: for the record.
    """
    teacher, logits, features = synthesizer.teacher_on_device, [], []
    for batch in synthesizer.batches(prompts):
        images = batch.images.to(synthesizer.generator.device)
        logits.append(teacher(images, synthesizer.labels_of(batch.prompts)).float().cpu())
        features.append(_features(teacher, images).float().cpu())
    answers, labels = torch.cat(logits), torch.tensor([prompt.label for prompt in prompts])
    energy = TeacherEnergy(teacher, calibration, guidance)
    return Check(
        step,
        energy=float(energy.of_logits(answers, labels).mean()),
        agreement=float((answers.argmax(1) == labels).float().mean()),
        diversity=float(np.mean([vendi_score(own) for own in torch.cat(features).split(IMAGES_PER_CLASS)])),
    )


def _features(teacher: Classifier, images: Tensor) -> Tensor:
    """Penultimate features (batch, width), or the logits of a network of which nobody knows where they are."""
    try:
        return teacher.features(images)
    except UserError:
        return teacher(images)
