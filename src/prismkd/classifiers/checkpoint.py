"""Weights from a file into a network: safetensors or a plain state dict, never a pickle that runs code.

Which checkpoints open: ``.safetensors``, and whatever ``torch.load(weights_only=True)`` takes, in float32 or half
precision, bare or wrapped as training scripts do it (``WRAPPERS``, ``PREFIXES``).
"""

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

# Keys under which training scripts keep the weights, beside the optimizer's state and the like. The first that is there
# counts: averaged weights before the last ones, since those are what such a script evaluates.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "network", "net", "teacher")
# What DataParallel, torch.compile, Lightning modules and our own Classifier put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
NUM_NAMED = 3  # keys that an error lists


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in ``path``, in float32, without the wrappings of training scripts (``state_dict``, ``module.``).

    Raises:
        UserError: no such file, a pickle that needs code, or something else than tensors by name.
    """
    if not path.is_file():
        raise UserError(f"expected a file with weights, got {path}; check the path")
    state = _read(path)
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"expected a state dict (tensors by name) in {path}, got {_description(state)}; save model.state_dict() "
            "with safetensors.torch.save_file"
        )
    # float32, because a teacher is differentiated and a student trained; counters stay integers
    return {name: t.float() if t.is_floating_point() else t for name, t in _without_prefix(state).items()}


def load_weights(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Fill ``network`` with exactly these weights.

    Args:
        network: changed in place.
        state: from ``read_state_dict``.
        what: names the weights in errors.

    Raises:
        UserError: missing or extra keys, or other shapes; the first of each are listed.
    """
    # torch's own strict loading names every single key in one long error. num_batches_tracked may be missing: old
    # checkpoints lack it, and evaluation doesn't use it.
    expected = network.state_dict()
    shapes = [f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
              for name in expected if name in state and state[name].shape != expected[name].shape]  # fmt: skip
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    problems = [_listed("missing", missing), _listed("unknown", unknown), _listed("of another shape", shapes)]
    if any(problems):
        raise UserError(f"expected weights of {what}, got: {'; '.join(p for p in problems if p)}; check both")
    network.load_state_dict(state, strict=False)


def _read(path: Path) -> Any:
    """What is in the file, whatever it is; nothing in it is executed."""
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
        is_program = "TorchScript" in str(error)
        remedy = "use it as torchscript:FILE with --trust, for it is code" if is_program else "check the file"
        raise UserError(f"expected weights in {path}, got: {_first_line(error)}; {remedy}") from None


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers put before every name; one after the other, for they are nested at times."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _listed(problem: str, names: Iterable[str]) -> str:
    """``missing a, b, c and 7 more``; empty where there are none."""
    names = list(names)
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{problem} {', '.join(names[:NUM_NAMED])}{more}" if names else ""


def _description(content: Any) -> str:
    """What a file holds that is no state dict, for an error."""
    if isinstance(content, dict):
        strange = next((f"{name}: {type(value).__name__}" for name, value in content.items()
                        if not isinstance(value, Tensor)), "")  # fmt: skip
        return f"a dictionary with {strange}" if strange else "an empty one"
    return f"a {type(content).__name__}"


def _first_line(error: Exception) -> str:
    """The line of an error that names the reason, at most 160 characters."""
    lines = str(error).strip().splitlines()
    useful = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]  # torch says it further down
    return (useful or lines or [type(error).__name__])[0].strip()[:160]
