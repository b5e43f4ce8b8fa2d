"""The energy that guides: the configured function of the teacher's logits, and the optional terms beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prismkd.classifiers import Classifier
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance.energy import (
    batch_norm_energy,
    conditional_energy,
    elucd_energy,
    free_energy,
    hinge_energy,
    joint_energy,
    prototype_energy,
    react,
    repulsion_energy,
)
from prismkd.guidance.targets import Calibration

Statistics = tuple[_BatchNorm, Tensor, Tensor]  # a layer, and mean and variance (channels,) of its input
QUEUE_MOMENTUM = 0.9  # of the running statistics that those of a small batch are mixed with


@dataclass
class TeacherEnergy:
    """Energy of images under the teacher, as ``config`` asks; differentiable with respect to the images.

    Attributes:
        teacher: classifier of images in [0, 1].
        calibration: target energies and thresholds.
        config: which energy, and the weights of its terms.
    """

    teacher: Classifier
    calibration: Calibration
    config: GuidanceConfig
    _queue: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def couples_the_batch(self) -> bool:
        """Whether an image's gradient depends on the others of its batch."""
        return self.config.batch_norm_weight > 0 or self.config.diversity_weight > 0

    def satisfied(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(batch,) free energies, and whether each image is under its target and of its own class."""
        logits = self.logits(images, labels)
        energy = free_energy(logits, self.config.temperature)
        return energy, (energy <= self._target(energy)[labels]) & (logits.argmax(1) == labels)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The energy of the whole batch, a scalar: the sum over images (batch, channels, height, width) in [0, 1]."""
        if self.config.batch_norm_weight > 0:
            with _recorded_statistics(self.teacher) as statistics:
                logits, features = self._logits_and_features(images, labels)
            batch_term = self.config.batch_norm_weight * len(images) * self._batch_norm_term(statistics)
        else:
            logits, features = self._logits_and_features(images, labels)
            batch_term = torch.zeros((), device=images.device)
        total = self._of_logits(logits, labels).sum() + batch_term
        if self.config.prototype_weight > 0:
            prototypes = self.teacher.head.weight
            total = total + self.config.prototype_weight * prototype_energy(features, prototypes, labels).sum()
        if self.config.diversity_weight > 0:
            total = total + self.config.diversity_weight * repulsion_energy(features, labels)
        return total

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """The teacher's logits (batch, classes), from clipped features where ReAct is on."""
        return self._logits_and_features(images, labels)[0]

    def _of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        config, name = self.config, self.config.energy
        if name == "hinge":
            return hinge_energy(logits, labels, self._target(logits), margin_weight=config.margin_weight,
                                label_weight=config.label_weight, temperature=config.temperature)  # fmt: skip
        if name == "free":
            return free_energy(logits, config.temperature)
        return {"joint": joint_energy, "conditional": conditional_energy, "elucd": elucd_energy}[name](logits, labels)

    def _logits_and_features(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and penultimate features where a term needs them (else empty)."""
        threshold = self.calibration.react_threshold
        if threshold is None and self.config.prototype_weight == 0 and self.config.diversity_weight == 0:
            return self.teacher(images, labels), images.new_empty(0)
        features = self.teacher.features(images)
        return self.teacher.head(features if threshold is None else react(features, threshold)), features

    def _target(self, like: Tensor) -> Tensor:
        return torch.tensor(self.calibration.energy_target, device=like.device)

    def _batch_norm_term(self, statistics: list[Statistics]) -> Tensor:
        """Sum over layers; the statistics are mixed with those of the views and steps before.

        The mixture moves slowly, the gradient is as large as without it.
        """
        if not statistics:
            raise UserError(
                "expected a teacher with batch normalization for guidance.batch_norm_weight, got none; "
                "use guidance.prototype_weight"
            )
        total = torch.zeros((), device=statistics[0][1].device)
        for number, (layer, mean, variance) in enumerate(statistics):
            if number in self._queue:
                old_mean, old_variance = self._queue[number]
                mean = mean + QUEUE_MOMENTUM * (old_mean - mean).detach()
                variance = variance + QUEUE_MOMENTUM * (old_variance - variance).detach()
            self._queue[number] = (mean.detach(), variance.detach())
            assert layer.running_mean is not None and layer.running_var is not None
            total = total + batch_norm_energy(mean, variance, layer.running_mean, layer.running_var)
        return total


@contextmanager
def _recorded_statistics(network: nn.Module) -> Iterator[list[Statistics]]:
    """While active, lists every batch norm's input statistics, in the order of the forward pass."""
    found: list[Statistics] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        dims = [d for d in range(inputs[0].ndim) if d != 1]
        found.append((cast(_BatchNorm, layer), inputs[0].mean(dims), inputs[0].var(dims, unbiased=False)))

    handles = [m.register_forward_pre_hook(record) for m in network.modules() if isinstance(m, _BatchNorm)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
