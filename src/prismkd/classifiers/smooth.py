"""A teacher whose gradients are smoother than its outputs, against adversarial guidance."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prismkd.errors import UserError

BETA = 10.0  # softplus_beta(x) = log(1 + exp(beta x)) / beta; 10 is smooth over about 0.3 around zero
Network = TypeVar("Network", bound=nn.Module)


class _SoftReLU(torch.autograd.Function):
    """Forward ``relu(x)``; backward the derivative of softplus, ``sigmoid(beta x)``, in place of relu's step."""

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

    A ReLU network is piecewise linear and its gradient jumps from piece to piece; the hope is that adversarial
    directions live on such jumps. The forward pass stays, so energies and targets keep their meaning.

    Raises:
        UserError: the network has no such modules, for example because it uses GELU, which is smooth already.
    """
    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise UserError("expected a teacher with nn.ReLU modules for guidance.smooth_backward, got none; switch it off")
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, SoftReLU())
    return network
