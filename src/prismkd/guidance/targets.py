"""The targets of guidance, from a calibration: statistics of unguided samples, without any real image.

*Calibration* is always this measurement. *Targets* are what it is for: the free energies at which guidance stops.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

PSEUDO_SAMPLES = 4  # at the overall median, for classes with few samples
FLOOR_SHARE = 0.1  # of the usual size of a gradient, below which none is scaled up


@dataclass(frozen=True)
class Calibration:
    """What energies, gradients and latents are like in unguided samples.

    Attributes:
        energy_target: (classes,) the targets: per class, the free energy at which guidance stops.
        energy_all: the median free energy over all classes.
        g_floor: energy gradients with a root mean square below this aren't scaled up.
        per_class_count: (classes,) how many unguided samples each target rests on.
        latent_rms: the largest root mean square of an unguided x0 prediction; 0 where it wasn't measured.
    """

    energy_target: list[float]
    energy_all: float
    g_floor: float
    per_class_count: list[int]
    latent_rms: float = 0.0


def calibration_from(energies: Tensor, predictions: Tensor, gradients: Tensor, num_classes: int) -> Calibration:
    """The targets and the gradient floor from measurements on unguided samples.

    ``E_target[y] = c median(E_free of samples of y) + (1 - c) median(E_free of all)`` with the confidence
    ``c = n_y / (n_y + 4)``: a class of few samples leans on the others, one without any takes their median.

    Args:
        energies: (n,) free energies of unguided samples.
        predictions: (n,) the classes that the teacher assigns to them.
        gradients: root mean squares of energy gradients seen on the way, any number of them.
        num_classes: number of classes.
    """
    energy_all = float(energies.median())
    targets, counts = [], []
    for label in range(num_classes):
        # By the teacher's class and not the prompt's: an image that shows something else says nothing about y.
        of_class = energies[predictions == label]
        counts.append(len(of_class))
        # With the median, half of the usual images of a class are in-distribution enough as they are, and a few broken
        # ones move nothing.
        median = float(of_class.median()) if len(of_class) else energy_all
        confidence = len(of_class) / (len(of_class) + PSEUDO_SAMPLES)
        targets.append(confidence * median + (1 - confidence) * energy_all)
    # The edit divides by a gradient's size. Where the teacher is saturated the gradient is close to zero and mostly
    # noise, which dividing would blow up to a full step.
    g_floor = FLOOR_SHARE * float(gradients.median()) if len(gradients) else 0.0
    return Calibration(targets, energy_all, g_floor, counts)
