"""Labelled images on disk (parquet with image bytes, label and domain), as tensors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from prismkd.errors import UserError


@dataclass(frozen=True)
class LabelledImages:
    """Images (n, channels, height, width) float32 in [0, 1], labels (n,) int64 and each image's domain."""

    images: Tensor
    labels: Tensor
    domains: np.ndarray

    def domain(self, name: str) -> LabelledImages:
        """The part of one domain."""
        mask = self.domains == name
        return LabelledImages(self.images[mask], self.labels[mask], self.domains[mask])


def images_to_tensor(images: np.ndarray) -> Tensor:
    """uint8 images (n, height, width) or (n, height, width, channels) to float32 (n, channels, height, width)."""
    tensor = torch.from_numpy(images).float().div(255)
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def load_labelled_images(path: Path, num_classes: int) -> LabelledImages:
    """Read a parquet file with the columns image (PNG or JPEG bytes), label and domain.

    Raises:
        UserError: no such file, missing columns, labels outside the class list, or an image that doesn't decode.
    """
    try:
        table = pq.read_table(path, columns=["image", "label", "domain"])
    except (FileNotFoundError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"expected a parquet file with image, label and domain, got {path}: {error}") from None
    labels = table["label"].to_numpy().astype(np.int64)
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(f"expected labels from 0 to {num_classes - 1} in {path}, got {set(labels.tolist())}")
    images = []
    for row, data in enumerate(table["image"].to_pylist()):
        try:
            images.append(np.asarray(Image.open(io.BytesIO(data))))
        except OSError:
            raise UserError(f"expected an image in row {row} of {path}, got bytes that don't decode") from None
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        raise UserError(
            f"expected images of one size and mode in {path}, got {sorted(map(str, sizes))[:3]}; resize them"
        )
    domains = np.array(table["domain"].to_pylist())
    return LabelledImages(images_to_tensor(np.stack(images)), torch.from_numpy(labels), domains)
