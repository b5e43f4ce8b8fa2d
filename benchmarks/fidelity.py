"""What knobs are chosen by: how often a student agrees with the teacher on images that neither has learned from."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

from torch import Tensor

from prismkd.classifiers import Classifier, predict
from prismkd.distillation.training_set import to_float
from prismkd.prompts.styles import ICON_DOMAINS

SEEDS, HELD_OUT_SEED = (777, 779), 778  # other ones than any run's in the docs, which the choice must not be fitted to
HeldOut = list[tuple[Tensor, Tensor]]  # images and labels, by kind of prompt


def held_out_images(teacher: Classifier, draw: Callable[[float | None], tuple[Tensor, Tensor]]) -> HeldOut:
    """Unguided images of plain prompts and of every style, those that the teacher recognizes.

    Where the teacher itself doesn't see the prompted class, the image is no question with an answer.

    Args:
        teacher: the judge.
        draw: images (n, channels, height, width), uint8, and labels (n,), of prompts with a share of the teacher's own
            domain; of plain ones for None.
    """
    found = []
    for id_share in (None, 1 / len(ICON_DOMAINS)):
        images, labels = draw(id_share)
        recognized = predict(teacher, to_float(images)).argmax(1) == labels
        found.append((to_float(images[recognized]), labels[recognized]))
    return found


def fidelity(student: Classifier, held_out: HeldOut) -> float:
    """Share of the held-out images that the student assigns to their label, the mean of both kinds."""
    return mean(float((predict(student, images).argmax(1) == labels).float().mean()) for images, labels in held_out)
