"""Weights from a file into a network: safetensors or a plain state dict, never a pickle that runs code."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prismkd.errors import UserError

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "network", "net", "teacher")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
NUM_NAMED = 3  # keys that an error lists


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in ``path``, in float32, without the wrappings of training scripts (``state_dict``, ``module.``).

    Raises:
        UserError: no such file, a pickle that needs code, or something else than tensors by name.
    """
    if not path.is_file():
        raise UserError(f"expected a file with weights, got {path}; check the path")
    found = _read(path)
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(
            f"expected a state dict (tensors by name) in {path}, got {_kind(found)}; save model.state_dict() with "
            "safetensors.torch.save_file"
        )
    return {name: t.float() if t.is_floating_point() else t for name, t in _without_prefix(found).items()}


def load_weights(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Fill ``network`` with exactly these weights.

    Args:
        network: changed in place.
        state: from ``read_state_dict``.
        what: names the weights in errors.

    Raises:
        UserError: missing or extra keys, or other shapes; the first of each are listed.
    """
    wanted = network.state_dict()
    shapes = [f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}"
              for name in wanted if name in state and state[name].shape != wanted[name].shape]  # fmt: skip
    problems = [
        _some("missing", [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]),
        _some("unknown", [name for name in state if name not in wanted]),
        _some("of another shape", shapes),
    ]
    if any(problems):
        raise UserError(f"expected weights of {what}, got: {'; '.join(p for p in problems if p)}; check both")
    network.load_state_dict(state, strict=False)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"expected a state dict in {path}, got a pickle that runs code when it is opened ({_first_line(error)}); "
            "save model.state_dict() with safetensors.torch.save_file where you trust it"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        program = "TorchScript" in str(error)
        remedy = "use it as torchscript:FILE with --trust, for it is code" if program else "check the file"
        raise UserError(f"expected weights in {path}, got: {_first_line(error)}; {remedy}") from None


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers put before every name."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _some(kind: str, names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{kind} {', '.join(names[:NUM_NAMED])}{more}" if names else ""


def _kind(found: Any) -> str:
    if isinstance(found, dict):
        strange = next((f"{name}: {type(value).__name__}" for name, value in found.items()
                        if not isinstance(value, Tensor)), "")  # fmt: skip
        return f"a dictionary with {strange}" if strange else "an empty one"
    return f"a {type(found).__name__}"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    useful = [line for line in text if "GLOBAL" in line or "Unsupported" in line]
    return (useful or text or [type(error).__name__])[0].strip()[:160]
