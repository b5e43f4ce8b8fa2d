"""Data-free calibration: what energies, gradients and latents look like in unguided samples."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

PSEUDO_SAMPLES = 4  # at the overall median, for classes with few samples


@dataclass(frozen=True)
class Calibration:
    """Statistics of unguided samples, which set the targets without any real image.

    Attributes:
        energy_target: per class, the free energy at which guidance stops.
        energy_all: the median over all classes.
        g_floor: gradients below this root mean square aren't scaled up.
        per_class_count: how many unguided samples each class's target rests on.
        latent_rms: the largest root mean square of an unguided x0 prediction; 0 where it wasn't measured.
        react_threshold: penultimate features above this are clipped (ReAct); None is no clip.
    """

    energy_target: list[float]
    energy_all: float
    g_floor: float
    per_class_count: list[int]
    latent_rms: float = 0.0
    react_threshold: float | None = None


def calibrate(energies: Tensor, predictions: Tensor, gradients: Tensor, num_classes: int) -> Calibration:
    """Median energy of the samples that the teacher assigns to each class, shrunk where a class has few.

    Args:
        energies: (n,) free energies of unguided samples.
        predictions: (n,) the teacher's classes of them.
        gradients: root mean squares of energy gradients seen on the way.
        num_classes: number of classes.
    """
    energy_all = float(energies.median())
    targets, counts = [], []
    for label in range(num_classes):
        own = energies[predictions == label]
        counts.append(len(own))
        trust = len(own) / (len(own) + PSEUDO_SAMPLES)
        median = float(own.median()) if len(own) else energy_all
        targets.append(trust * median + (1 - trust) * energy_all)
    # Saturated gradients would be blown up into noise: a tenth of the usual size is the floor.
    floor = 0.1 * float(gradients.median()) if len(gradients) else 0.0
    return Calibration(targets, energy_all, floor, counts)
