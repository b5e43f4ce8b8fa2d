"""Smooth noise: 6 x 6 normal numbers, enlarged to the image. What costs nothing, and a rival has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation

CELLS, SPREAD = 6, 0.5  # numbers per side; standard deviation of a pixel around gray


@dataclass
class SmoothNoise:
    """Images of noise, each with the class that the teacher gives it."""

    batch_size: int = 256
    name: str = "smooth noise"
    own_student: OwnStudent | None = None
    kept_rounds: int | None = None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``."""
        channels, height, width = problem.shape
        while True:
            cells = torch.randn(self.batch_size, channels, CELLS, CELLS)
            smooth = F.interpolate(cells, (height, width), mode="bicubic", align_corners=False)
            images = (0.5 + SPREAD * smooth).clamp(0, 1)
            with torch.no_grad():
                yield images, problem.teacher(images).argmax(1)
