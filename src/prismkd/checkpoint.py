"""Weights of others: safetensors, or state dicts that torch loads without running code."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prismkd.errors import UserError

NUM_SHOWN = 3


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors by name, without the wrappings ``state_dict``, ``model`` and ``module.``.

    Raises:
        UserError: no such file, or it is neither safetensors nor a state dict.
    """
    if not path.is_file():
        raise UserError(f"expected a file of weights, got {path}, which is none; check the path")
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(
            f"expected safetensors or a state dict of tensors in {path}, got: {reason}; save model.state_dict()"
        ) from None
    for key in ("state_dict", "model"):
        found = found.get(key, found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"expected a state dict of tensors in {path}, got other contents; save model.state_dict()")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def load_weights(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load ``state`` into ``network``.

    Raises:
        UserError: names that are missing, unknown, or of another shape; the first few are listed.
    """
    own = network.state_dict()
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    problems = {"missing": own.keys() - state.keys(), "unknown": state.keys() - own.keys(), "of another shape": shapes}
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {kind} ({_brief(names)})" for kind, names in problems.items() if names)
        raise UserError(f"expected the weights of a {type(network).__name__} in {what}, got {found}; name another")
    network.load_state_dict(state)


def _brief(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:NUM_SHOWN]) + (", ..." if len(names) > NUM_SHOWN else "")
