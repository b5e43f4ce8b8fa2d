"""Auxiliary batch norms: synthetic images have statistics and scales of their own while a student is trained.

As AdvProp has it for adversarial images (Xie et al. 2020): convolutions learn from both kinds, and the student that
leaves the training has the norms of the real ones. timm's ``convert_splitbn_model`` cuts every batch into equal parts,
where a share of real images may be any, and drops the activations in some of its networks' norms.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from prismkd.errors import UserError


class SplitNorms(nn.Module):
    """A second norm beside each batch norm of a network, which stays as it is but for hooks.

    Attributes:
        num_real: the first images of the batch, which pass the network's own norms; the others pass the second ones.

    Raises:
        UserError: the network has no batch norm.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.num_real, self._handles = 0, list[RemovableHandle]()
        own = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
        if not own:
            raise UserError(
                f"expected a student with batch norm for distillation.auxiliary_batch_norm, got a "
                f"{type(network).__name__} without; set it to false, or choose another distillation.architecture"
            )
        self.norms = nn.ModuleList(copy.deepcopy(layer) for layer in own)
        for layer, second in zip(own, self.norms, strict=True):
            self._split(layer, second)

    def _split(self, layer: nn.Module, second: nn.Module) -> None:
        """Let ``layer`` see the real images alone, and put what ``second`` makes of the others behind."""
        synthetic = list[Tensor]()

        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            synthetic.append(inputs[0][self.num_real :])
            return (inputs[0][: self.num_real], *inputs[1:])

        def after(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return torch.cat([output, second(synthetic.pop())])

        self._handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]

    def release(self) -> None:
        """Leave the network with its own norms."""
        for handle in self._handles:
            handle.remove()
