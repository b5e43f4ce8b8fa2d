"""Adaptive allocation: classes and styles that still bring new things, or that a student finds hard, get more images.

After a pilot it is by novelty; between rounds by the guide's disagreement (``factors_by``).

Our design, beyond the paper. The Good-Turing estimate of the probability that the next draw is of an unseen species is
N_1 / N, the share of the draws whose species was drawn once (Good 1953). Here a draw is an image, and it is the only
one of its species if no other accepted image of its class lies within the usual distance of nearest neighbors.

Only images that the teacher takes for their class count: otherwise broken images, which lie far from everything, would
earn their class more of the same.

Measured on Pictograms it lies within the spread of even allocation (docs/dpe.md), so it is off by default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR = 4.0  # images of average novelty that every class and style starts with, so that few images decide little
SMALLEST = 1e-9  # in place of a mean of zero, by which nothing could be divided
LOWEST, HIGHEST = 0.5, 2.0  # times the even share; an estimate from a pilot should not starve a class


@dataclass(frozen=True)
class Allocation:
    """How the images after the pilot are divided, and the estimates that say so.

    Attributes:
        class_novelty, style_novelty: estimated share of unseen things, in (0, 1); about 0.5 is average.
        class_shares: of the images to come; they add up to 1.
        style_factors: by which every class's style weights are to be multiplied, in [LOWEST, HIGHEST].
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
    """Estimate what is unseen of every class and style from a pilot, and divide the budget accordingly.

    Args:
        features: (n, width), the teacher's features of the pilot's images.
        labels, styles: (n,) indices of each image's class and style.
        accepted: (n,) whether the teacher takes the image for its class.
        num_classes: the number of classes, which have equal shares so far.
        style_weights: of the styles so far; they add up to 1.
    """
    distances = nearest_distances(features[accepted], labels[accepted])
    # The median over all classes as the usual distance: no absolute one would do, as teachers' features differ in
    # scale. By construction about half of the images stand alone, and a class is judged against the others.
    finite = distances[np.isfinite(distances)]
    alone = distances > (np.median(finite) if len(finite) else 0.0)
    class_novelty = _novelty(alone, labels[accepted], num_classes)
    # A style's images are compared with all styles' of their class: what another style shows already is nothing new
    style_novelty = _novelty(alone, styles[accepted], len(style_weights))
    even = np.full(num_classes, 1 / num_classes)
    class_shares = even * bounded_factors(class_novelty, even)
    style_factors = bounded_factors(style_novelty, style_weights)
    return Allocation(class_novelty.tolist(), style_novelty.tolist(), class_shares.tolist(), style_factors.tolist())


def factors_by(
    values: NDArray[np.float64], groups: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Factors of groups of images, such as classes, in proportion to their images' mean value.

    Args:
        values: (n,) of each image, at least 0; larger ones earn more of the same.
        groups: (n,) index of each image's group.
        weights: of the groups so far; the factors leave their sum as it is.
    """
    return bounded_factors(_mean_of(values, groups, len(weights)), weights)


def _mean_of(values: NDArray[np.float64], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The mean of each group, drawn towards that of all by ``PRIOR`` images; above 0."""
    overall = max(float(values.mean()), SMALLEST)
    sums = np.bincount(groups, weights=values, minlength=count)
    return (sums + PRIOR * overall) / (np.bincount(groups, minlength=count) + PRIOR)


def nearest_distances(features: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The Euclidean distance of each image to the nearest other one of its label, (n,); infinite where there is none.

    Args:
        features: (n, width).
        labels: (n,).
    """
    nearest = np.full(len(features), np.inf)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        x = features[members].astype(np.float64)
        squares = (x * x).sum(1)
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, which rounding makes slightly negative for duplicates
        squared_distances = np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0.0)
        np.fill_diagonal(squared_distances, np.inf)
        nearest[members] = np.sqrt(squared_distances.min(1))
    return nearest


def _novelty(alone: NDArray[np.bool_], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The Good-Turing estimate per group, shrunk towards one half: (N_1 + PRIOR / 2) / (N + PRIOR).

    A group without accepted images gets one half: nothing is known of it.

    Args:
        alone: (n,) whether an image stands alone.
        groups: (n,) index of each image's class or style.
        count: the number of groups.
    """
    num_alone = np.bincount(groups, weights=alone, minlength=count)
    num_images = np.bincount(groups, minlength=count)
    return (num_alone + PRIOR / 2) / (num_images + PRIOR)


def bounded_factors(novelty: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors in proportion to novelty, clipped to [LOWEST, HIGHEST], that leave the sum of the weights as it is.

    That is, clip(s novelty_i, LOWEST, HIGHEST) with the scale s that solves sum_i w_i clip(s novelty_i) = sum_i w_i.

    Args:
        novelty: (n,), above 0.
        weights: (n,), at least 0.
    """
    # The sum grows with the scale, from LOWEST times the weights' sum at 0 to HIGHEST times it at ``high``, so there is
    # one solution in between. Bisection, as the clipping leaves no closed form; 60 halvings reach double precision.
    low, high = 0.0, HIGHEST / novelty.min()
    for _ in range(60):
        scale = (low + high) / 2
        if (weights * np.clip(scale * novelty, LOWEST, HIGHEST)).sum() < weights.sum():
            low = scale
        else:
            high = scale
    return np.clip(high * novelty, LOWEST, HIGHEST)
