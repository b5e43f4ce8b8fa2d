"""The energy that guides: the configured function of the teacher's logits, and the optional term added to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prismkd.classifiers import Classifier
from prismkd.config import GuidanceConfig
from prismkd.guidance.energy import (
    conditional_energy,
    elucd_energy,
    free_energy,
    hinge_energy,
    joint_energy,
    repulsion_energy,
)
from prismkd.guidance.guide import Guide
from prismkd.guidance.targets import Calibration


@dataclass
class TeacherEnergy:
    """Energy of images under the teacher, as ``config`` asks; differentiable with respect to the images.

    Attributes:
        teacher: classifier of images in [0, 1].
        calibration: the targets.
        config: which energy, and the weights of its terms.
        guide: a student whose doubt is wanted; None: there is none.
    """

    teacher: Classifier
    calibration: Calibration
    config: GuidanceConfig
    guide: Guide | None = None

    @property
    def couples_the_batch(self) -> bool:
        """Whether an image's gradient depends on the others of its batch."""
        return self.config.diversity_weight > 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The energy of a batch of images (batch, channels, height, width) in [0, 1], a scalar.

        ``E_total = sum_i (E(x_i, y_i) - w D(x_i)) + w_div E_div``

        with the energies of ``energy.py`` and the doubt of ``guide.py``. It is a sum over images, not a mean, so that
        no image's gradient shrinks with the number of others.

        Raises:
            UserError: the diversity term asks for one teacher with a linear head, and it has none.
        """
        if self.config.diversity_weight == 0:
            return self._of_images(images, self.teacher(images, labels), labels)
        features = self.teacher.features(images)
        total = self._of_images(images, self.teacher.head(features), labels)
        return total + self.config.diversity_weight * repulsion_energy(features, labels)

    def _of_images(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of what each image has for itself."""
        total = self.of_logits(logits, labels).sum()
        if self.guide is None:
            return total
        return total - self.guide.weight * self.guide.doubt(images, logits).sum()

    def satisfied(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Free energies (batch,), and whether each image is under its target and of its own class (batch,)."""
        logits = self.teacher(images, labels)
        energy = free_energy(logits, self.config.temperature)
        return energy, (energy <= self._targets(energy)[labels]) & (logits.argmax(1) == labels)

    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``E(x_i, y_i)`` (batch,): the energy that ``guidance.energy`` names."""
        config, name = self.config, self.config.energy
        if name == "hinge":
            return hinge_energy(logits, labels, self._targets(logits), margin_weight=config.margin_weight,
                                label_weight=config.label_weight, temperature=config.temperature)  # fmt: skip
        if name == "free":
            return free_energy(logits, config.temperature)
        return {"joint": joint_energy, "conditional": conditional_energy, "elucd": elucd_energy}[name](logits, labels)

    def _targets(self, like: Tensor) -> Tensor:
        """E_target (classes,), on the device of ``like``."""
        return torch.tensor(self.calibration.energy_target, device=like.device)
