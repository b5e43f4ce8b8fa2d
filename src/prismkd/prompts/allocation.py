"""Adaptive allocation: after a pilot, classes and styles that still bring new things get more of the budget.

Our design, beyond the paper. How much is still unseen is estimated as Good and Turing do (Good 1953): by the share of
images that stand alone, here without another accepted image of their class within the usual distance of neighbors.
Only images that the teacher takes for their class count, so that strangeness earns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR = 4.0  # images of average novelty that every class and style has to begin with
LOWEST, HIGHEST = 0.5, 2.0  # times the even share


@dataclass(frozen=True)
class Allocation:
    """What the pilot says.

    Attributes:
        class_novelty, style_novelty: estimated share of unseen things, 0 to 1; 0.5 is average.
        class_shares: of the images to come; they add up to 1.
        style_factors: by which every class's style weights are to be multiplied.
    """

    class_novelty: list[float]
    style_novelty: list[float]
    class_shares: list[float]
    style_factors: list[float]


def allocate(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    styles: NDArray[np.int64],
    accepted: NDArray[np.bool_],
    num_classes: int,
    style_weights: NDArray[np.float64],
) -> Allocation:
    """Estimate what is unseen of every class and style from a pilot.

    Args:
        features: (n, width) of the pilot's images under the teacher.
        labels, styles: (n,) indices of each image's class and style.
        accepted: (n,) whether the teacher takes the image for its class.
        num_classes: the number of classes, which have equal shares so far.
        style_weights: of the styles so far; they add up to 1.
    """
    distances = nearest_distances(features[accepted], labels[accepted])
    finite = distances[np.isfinite(distances)]
    alone = distances > (np.median(finite) if len(finite) else 0.0)
    by_class = _novelty(alone, labels[accepted], num_classes)
    by_style = _novelty(alone, styles[accepted], len(style_weights))
    even = np.full(num_classes, 1 / num_classes)
    shares, factors = even * bounded_factors(by_class, even), bounded_factors(by_style, style_weights)
    return Allocation(by_class.tolist(), by_style.tolist(), shares.tolist(), factors.tolist())


def nearest_distances(features: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) distance of each image to the nearest other one of its label; infinite where there is none."""
    found = np.full(len(features), np.inf)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        x = features[own].astype(np.float64)
        squares = (x * x).sum(1)
        distances = np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0.0)
        np.fill_diagonal(distances, np.inf)
        found[own] = np.sqrt(distances.min(1))
    return found


def _novelty(alone: NDArray[np.bool_], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The share of images that stand alone, per group, drawn towards one half where there are few."""
    singles = np.bincount(groups, weights=alone, minlength=count)
    return (singles + PRIOR / 2) / (np.bincount(groups, minlength=count) + PRIOR)


def bounded_factors(novelty: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors in proportion to novelty, from ``LOWEST`` to ``HIGHEST``, that leave the weights' sum as it is."""
    low, high = 0.0, HIGHEST / novelty.min()
    for _ in range(60):  # bisection: the sum grows with the scale, from LOWEST to HIGHEST
        scale = (low + high) / 2
        if (weights * np.clip(scale * novelty, LOWEST, HIGHEST)).sum() < weights.sum():
            low = scale
        else:
            high = scale
    return np.clip(high * novelty, LOWEST, HIGHEST)
