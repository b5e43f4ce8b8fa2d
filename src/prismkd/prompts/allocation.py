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
    num_styles: int,
) -> Allocation:
    """Estimate what is unseen of every class and style from a pilot.

    Args:
        features: (n, width) of the pilot's images under the teacher.
        labels, styles: (n,) indices of each image's class and style.
        accepted: (n,) whether the teacher takes the image for its class.
        num_classes, num_styles: the numbers of both.
    """
    distances = nearest_distances(features[accepted], labels[accepted])
    finite = distances[np.isfinite(distances)]
    alone = distances > (np.median(finite) if len(finite) else 0.0)
    by_class = _novelty(alone, labels[accepted], num_classes)
    by_style = _novelty(alone, styles[accepted], num_styles)
    shares = _factors(by_class) / _factors(by_class).sum()
    return Allocation(by_class.tolist(), by_style.tolist(), shares.tolist(), _factors(by_style).tolist())


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


def _factors(novelty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Novelty relative to the mean, within bounds."""
    return np.clip(novelty / novelty.mean(), LOWEST, HIGHEST)
