"""The generator's training images, and what their captions are made of.

``generator.parquet`` in the cache holds every icon once, as WebP. Gray ones appear a second time here, in two named
colors, chosen by their position: what the captions say of colors is always true.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from benchmarks.pictograms.pictures import COLORS, decoded, is_gray, named_colors, recolored

COLOR_NOISE = 12.0  # standard deviation of a named color's channels: people call many colors red


@dataclass(frozen=True)
class GeneratorSet:
    """Icons, and then the gray ones of them in color.

    Attributes:
        pictures: (number of icons, 64, 64, 3) uint8.
        gray: positions of the gray icons.
        colors: names of the drawing's and the background's color of each gray one's second appearance.
        seed: of the shades of these colors.
        things, styles, categories, prefixes: of each icon; empty where unknown.
        labels: the class of each icon, or -1.
    """

    pictures: np.ndarray
    gray: list[int]
    colors: list[tuple[str, str]]
    seed: int
    things: list[str]
    styles: list[str]
    categories: list[str]
    prefixes: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        """Appearances: icons, and gray ones once more."""
        return len(self.pictures) + len(self.gray)

    def icon(self, position: int) -> int:
        """The icon that appears at a position."""
        count = len(self.pictures)
        return position if position < count else self.gray[position - count]

    def colors_at(self, position: int) -> tuple[str, str] | None:
        """Names of the drawing's and the background's color; None for an icon as it is."""
        count = len(self.pictures)
        return None if position < count else self.colors[position - count]

    def images(self, positions: list[int]) -> Tensor:
        """Images (n, 3, 64, 64) float32 in [0, 1]."""
        stacked = np.stack([self._picture(position) for position in positions])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(255)

    def _picture(self, position: int) -> np.ndarray:
        picture, names = self.pictures[self.icon(position)], self.colors_at(position)
        if names is None:
            return picture
        shades = np.random.default_rng((self.seed, position)).normal(0, COLOR_NOISE, (2, 3))
        drawing, background = np.clip(np.array([COLORS[name] for name in names]) + shades, 0, 255)
        return recolored(picture, drawing, background)


def read_generator_set(cache: Path, seed: int = 0) -> GeneratorSet:
    """Read what ``build.py`` has written."""
    columns = pq.read_table(cache / "generator.parquet").to_pydict()
    pictures = np.stack([decoded(data) for data in columns["image"]])
    gray = [position for position, picture in enumerate(pictures) if is_gray(picture)]
    rng = np.random.default_rng(seed)
    colors = [named_colors(rng) for _ in gray]
    return GeneratorSet(pictures, gray, colors, seed, columns["thing"], columns["style"], columns["category"],
                        columns["prefix"], np.array(columns["label"]))  # fmt: skip
