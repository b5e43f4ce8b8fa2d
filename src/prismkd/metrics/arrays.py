"""Metrics take numpy arrays and torch tensors alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to import, and whoever has tensors has it already
    from torch import Tensor

Array: TypeAlias = "np.ndarray | Tensor"


def to_numpy(values: Array) -> np.ndarray:
    """A numpy array, or a torch tensor of any device, as a numpy array; what is one already stays the same.

    bfloat16, which numpy lacks, becomes float32.
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
