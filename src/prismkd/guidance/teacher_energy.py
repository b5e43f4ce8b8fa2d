"""The energy that guides: the configured function of the teacher's logits, and the optional terms added to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, cast

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

STATISTICS_MOMENTUM = 0.9  # of the moving average that smooths a small batch's statistics


class LayerStatistics(NamedTuple):
    """A batch norm layer, and mean and variance (channels,) of what it gets as input."""

    layer: _BatchNorm
    mean: Tensor
    variance: Tensor


@dataclass
class TeacherEnergy:
    """Energy of images under the teacher, as ``config`` asks; differentiable with respect to the images.

    Attributes:
        teacher: classifier of images in [0, 1].
        calibration: the targets, and the threshold of ReAct.
        config: which energy, and the weights of its terms.
    """

    teacher: Classifier
    calibration: Calibration
    config: GuidanceConfig
    _running_statistics: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by the layer's number

    @property
    def couples_the_batch(self) -> bool:
        """Whether an image's gradient depends on the others of its batch."""
        return self.config.batch_norm_weight > 0 or self.config.diversity_weight > 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The energy of a batch of images (batch, channels, height, width) in [0, 1], a scalar.

        ``E_total = sum_i E(x_i, y_i) + w_bn n E_bn + w_proto sum_i E_proto(x_i, y_i) + w_div E_div``

        with the energies of ``energy.py`` and n the batch size. It is a sum over images, not a mean, so that no image's
        gradient shrinks with the number of others; the batch norm energy is one of means, hence its factor n.

        Raises:
            UserError: a weight asks for batch norm layers or a linear head that the teacher doesn't have.
        """
        config = self.config
        recording: AbstractContextManager[list[LayerStatistics]] = nullcontext([])
        if config.batch_norm_weight > 0:
            recording = _recorded_statistics(self.teacher)
        with recording as statistics:
            logits, features = self._logits_and_features(images, labels)
        total = self._of_logits(logits, labels).sum()
        if config.batch_norm_weight > 0:
            total = total + config.batch_norm_weight * len(images) * self._batch_norm_term(statistics)
        if config.prototype_weight > 0:
            prototypes = self.teacher.head.weight
            total = total + config.prototype_weight * prototype_energy(features, prototypes, labels).sum()
        if config.diversity_weight > 0:
            total = total + config.diversity_weight * repulsion_energy(features, labels)
        return total

    def satisfied(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Free energies (batch,), and whether each image is under its target and of its own class (batch,)."""
        logits = self.logits(images, labels)
        energy = free_energy(logits, self.config.temperature)
        return energy, (energy <= self._targets(energy)[labels]) & (logits.argmax(1) == labels)

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """The teacher's logits (batch, classes), from clipped features where ReAct is on."""
        return self._logits_and_features(images, labels)[0]

    def _of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``E(x_i, y_i)`` (batch,): the energy that ``guidance.energy`` names."""
        config, name = self.config, self.config.energy
        if name == "hinge":
            return hinge_energy(logits, labels, self._targets(logits), margin_weight=config.margin_weight,
                                label_weight=config.label_weight, temperature=config.temperature)  # fmt: skip
        if name == "free":
            return free_energy(logits, config.temperature)
        return {"joint": joint_energy, "conditional": conditional_energy, "elucd": elucd_energy}[name](logits, labels)

    def _logits_and_features(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, classes), and penultimate features (batch, width) where a term needs them, else empty."""
        threshold = self.calibration.react_threshold
        if threshold is None and self.config.prototype_weight == 0 and self.config.diversity_weight == 0:
            return self.teacher(images, labels), images.new_empty(0)
        features = self.teacher.features(images)
        return self.teacher.head(features if threshold is None else react(features, threshold)), features

    def _targets(self, like: Tensor) -> Tensor:
        """E_target (classes,), on the device of ``like``."""
        return torch.tensor(self.calibration.energy_target, device=like.device)

    def _batch_norm_term(self, statistics: list[LayerStatistics]) -> Tensor:
        """``E_bn``: the sum of ``batch_norm_energy`` over the layers.

        Raises:
            UserError: there are no such layers.
        """
        if not statistics:
            raise UserError(
                "expected a teacher with batch normalization for guidance.batch_norm_weight, got none; "
                "use guidance.prototype_weight"
            )
        total = torch.zeros((), device=statistics[0].mean.device)
        for number, (layer, mean, variance) in enumerate(statistics):
            mean, variance = self._smoothed(number, mean, variance)
            assert layer.running_mean is not None and layer.running_var is not None
            total = total + batch_norm_energy(mean, variance, layer.running_mean, layer.running_var)
        return total

    def _smoothed(self, number: int, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The moving average of layer ``number``'s statistics over views and steps, these ones included."""
        # A batch of a few images can't have the statistics of a training set, however good its images are, and would
        # be driven to the impossible. The average moves slowly; only the old part is cut off from the graph, as
        # mean + m (old - mean).detach(), so the gradient is as large as without it.
        if number in self._running_statistics:
            old_mean, old_variance = self._running_statistics[number]
            mean = mean + STATISTICS_MOMENTUM * (old_mean - mean).detach()
            variance = variance + STATISTICS_MOMENTUM * (old_variance - variance).detach()
        self._running_statistics[number] = (mean.detach(), variance.detach())
        return mean, variance


@contextmanager
def _recorded_statistics(network: nn.Module) -> Iterator[list[LayerStatistics]]:
    """While active, lists every batch norm layer's input statistics, in the order of the forward pass."""
    recorded: list[LayerStatistics] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        all_but_channels = [dim for dim in range(inputs[0].ndim) if dim != 1]
        mean, variance = inputs[0].mean(all_but_channels), inputs[0].var(all_but_channels, unbiased=False)
        recorded.append(LayerStatistics(cast(_BatchNorm, layer), mean, variance))

    handles = [module.register_forward_pre_hook(record)
               for module in network.modules() if isinstance(module, _BatchNorm)]  # fmt: skip
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
