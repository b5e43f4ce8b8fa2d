"""A teacher whose gradients are smoother than its outputs: against adversarial guidance."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prismkd.errors import UserError

BETA = 10.0  # softplus_beta(x) = log(1 + exp(beta x)) / beta
Network = TypeVar("Network", bound=nn.Module)


class _SoftReLU(torch.autograd.Function):
    """relu forward; backward the derivative of softplus, ``sigmoid(beta x)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * torch.sigmoid(BETA * x)


class SoftReLU(nn.Module):
    """``nn.ReLU`` with the gradient of softplus."""

    def forward(self, x: Tensor) -> Tensor:
        return _SoftReLU.apply(x)


def smooth_backward(network: Network) -> Network:
    """A copy of ``network`` with the same outputs, whose ``nn.ReLU`` modules pass gradients as softplus does.

    Raises:
        UserError: there are none.
    """
    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise UserError("expected a teacher with nn.ReLU modules for guidance.smooth_backward, got none; switch it off")
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, SoftReLU())
    return network
