"""Weights from a file into a network: safetensors or a plain state dict, never a pickle that runs code.

Which checkpoints open: ``.safetensors``, and whatever ``torch.load(weights_only=True)`` takes, in float32 or half
precision, bare or wrapped as training scripts do it (``AVERAGED``, ``WRAPPERS``, ``PREFIXES``), with the arguments of
the training beside the weights.
"""

from __future__ import annotations

import argparse
import pickle
import re
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prismkd.errors import UserError, warn
from prismkd.foreign import Budget, opening

# Keys under which training scripts keep weights that were averaged over the steps. They come before the last weights,
# since they are what such a script evaluates.
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged?|shadow)(_|$)", re.IGNORECASE)
# Keys under which they keep the last weights, beside the optimizer's state and the like; under another key they are
# found where nothing else has tensors by name.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "teacher")
# What DataParallel, torch.compile, Lightning modules and our own Classifier put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
# What FSDP, checkpointed activations and torch.compile put before a module's names, wherever it stands.
WITHIN = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What modules are called that have no part in a network's answer
BESIDE = re.compile(
    r"(^|_)(aux|auxiliary|loss|criterion|metrics?|acc|accuracy)([0-9]*|logits|head)(_|$)", re.IGNORECASE
)
MAX_DEPTH = 3  # keys, one within the other, behind which weights are looked for
COUNTER = "n_averaged"  # of torch's AveragedModel, beside the weights that it averages
TORCH = (b"PK", b"\x80")  # what files of torch.save begin with
NUM_NAMED = 3  # keys that an error lists
MAX_REUSE = 4  # a file's tensors may be views of each other, as tied weights are, but not without end
SAVE = "save model.state_dict() with safetensors.torch.save_file"


class _Inert:
    """Stands in for a class that a pickle may name but nobody needs: it takes everything and does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


# What checkpoints have beside tensors: the arguments of a training, with paths in them, and figures of numpy's.
ALLOWED: list[Any] = [
    argparse.Namespace,
    *((_Inert, f"pathlib.{name}") for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *((_Inert, f"pathlib._local.{name}") for name in ("PosixPath", "WindowsPath")),  # Python 3.13 and later
    *((_Inert, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
    *((_Inert, f"numpy.{core}.multiarray._reconstruct") for core in ("_core", "core")),
    *((_Inert, f"numpy.{name}") for name in ("dtype", "ndarray")),
]


@dataclass(frozen=True)
class Checkpoint:
    """What a file with weights holds.

    Attributes:
        state: the weights by name, in float32.
        arguments: those of the training that wrote the file; empty where it keeps none.
        notes: what its owner should know of how it was read, a sentence each.
    """

    state: dict[str, Tensor]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in ``path``, as ``read_checkpoint`` reads them; what there is to know of them is said.

    Raises:
        UserError: as ``read_checkpoint``.
    """
    checkpoint = read_checkpoint(path)
    for note in checkpoint.notes:
        warn(note)
    return checkpoint.state


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in ``path``, in float32, without the wrappings of training scripts (``state_dict``, ``module.``).

    Raises:
        UserError: no such file, a pickle that needs code, or something else than tensors by name.
    """
    if not path.is_file():
        raise UserError(f"expected a file with weights, got {path}; check the path")
    content = _read(path)
    found = _unwrapped(content, path)
    if not _is_state(found.state):
        raise UserError(f"expected a state dict (tensors by name) in {path}, got {_description(found.state)}; {SAVE}")
    _check_size(found.state, path)
    # float32, because a teacher is differentiated and a student trained; counters stay integers
    return Checkpoint(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.state.items()},
        _arguments(content),
        tuple(f"{path} {note}" for note in found.notes),
    )


def load_weights(network: nn.Module, state: dict[str, Tensor], what: str, remedy: str = "check both") -> None:
    """Fill ``network`` with exactly these weights.

    Args:
        network: changed in place.
        state: from ``read_state_dict``.
        what: names the weights in errors.
        remedy: what to do where they don't fit.

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
    problems = [listed("missing", missing), listed("unknown", unknown), listed("of another shape", shapes)]
    if any(problems):
        raise UserError(f"expected weights of {what}, got: {'; '.join(p for p in problems if p)}; {remedy}")
    # Copied they would be rounded in silence, and of complex ones a half would be lost
    others = [f"{name} of {state[name].dtype} for {tensor.dtype}" for name, tensor in expected.items() if name in state
              and tensor.is_floating_point() and not state[name].is_floating_point()]  # fmt: skip
    if others:
        raise UserError(f"expected weights of {what}, got {listed('', others).strip()}; {remedy}")
    check_finite(state, what)
    expected.update(state)  # which has the versions of modules beside the tensors, without which some refuse to load
    network.load_state_dict(expected)


def check_finite(state: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that hold a nan or an infinity, as after a training that diverged.

    Args:
        state: the weights by name.
        what: names them in errors.

    Raises:
        UserError: names the first few.
    """
    wrong = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if wrong:
        raise UserError(
            f"expected finite weights of {what}, got nan or infinite values in {listed('', wrong).strip()}; take those "
            "of an earlier step, or train it again"
        )


def part_for(network: nn.Module, state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Of weights those of ``network``, which may be one module of several in a training, as with Lightning.

    Args:
        network: that they are for.
        state: from ``read_checkpoint``.
        path: of the file, for errors.

    Returns:
        The weights by the network's own names, all of them where no module has these names; and a note of what is left
        out.

    Raises:
        UserError: several modules are such a network.
    """
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    if not names:
        return state, ()
    modules = [name.removesuffix(names[0]) for name in state if name.endswith(f".{names[0]}")]
    modules = [module for module in modules if all(module + name in state for name in names)]
    if set(names) <= state.keys():
        modules = [""]
    if len(modules) > 1:
        raise UserError(
            f"expected weights of one network in {path}, got those of {len(modules)} "
            f"({', '.join(modules[:NUM_NAMED])}); save the state dict of the one that is meant"
        )
    if not modules:
        return state, ()
    own = {name.removeprefix(modules[0]): tensor for name, tensor in state.items() if name.startswith(modules[0])}
    others = [name for name in state if not name.startswith(modules[0])]
    beside = [name for name in own if _is_beside(name, network)]
    own = {name: tensor for name, tensor in own.items() if name not in beside}
    which = f"the network {modules[0]}" if modules[0] else "the network"
    note = f"{path} holds more than {which}, which is used: {listed('', [*others, *beside]).strip()}"
    return own, (note,) if others or beside else ()


def _is_beside(name: str, network: nn.Module) -> bool:
    """Whether a tensor is of a loss, a metric or an auxiliary head, which have no part in a network's answer."""
    first = name.partition(".")[0]
    return not hasattr(network, first) and bool(BESIDE.search(first))


def listed(problem: str, names: Iterable[str]) -> str:
    """``missing a, b, c and 7 more``; empty where there are none."""
    names = list(names)
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{problem} {', '.join(names[:NUM_NAMED])}{more}" if names else ""


def _check_size(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that aren't plain, or that say they are larger than their file.

    A value may stand for a whole tensor (stride 0), and a file may hold one that takes no memory until it is used.
    """
    strange = next((name for name, tensor in state.items() if tensor.is_meta or tensor.layout != torch.strided), "")
    if strange:
        raise UserError(f"expected plain tensors in {path}, got a sparse or an empty one as {strange}; {SAVE}")
    num_bytes = Budget.of_state(state).num_bytes
    if num_bytes > MAX_REUSE * path.stat().st_size:
        raise UserError(
            f"expected tensors of {path.stat().st_size:,} bytes in {path}, got {num_bytes:,}, most of "
            f"which are the same; {SAVE}"
        )


def _read(path: Path) -> Any:
    """What is in the file, whatever it is; nothing in it is executed."""
    with opening(f"weights in {path}", "check the file"):
        # By what it begins with and not by its suffix, which people change
        with path.open("rb") as file:
            start = file.read(60)
        _refuse_text(path, start)
        if start[8:9] == b"{" or (path.suffix == ".safetensors" and not start.startswith(TORCH)):
            return load_file(path)
        if start.startswith(b"PK"):
            _refuse_compressed(path)
        return _read_pickle(path)


def _read_pickle(path: Path) -> Any:
    """What torch.save wrote, as far as that is tensors, plain values and ``ALLOWED``."""
    try:
        with torch.serialization.safe_globals(ALLOWED), path.open("rb") as file:  # torch heeds a path's suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"expected a state dict in {path}, got a pickle that needs {_not_allowed(path, error)}, which "
            f"could run any code; {SAVE} where you trust it"
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        raise UserError(
            f"expected weights in {path}, got: {_first_line(error)}; use it as torchscript:FILE with --trust, for it "
            "is code"
        ) from None


def _refuse_compressed(path: Path) -> None:
    """Refuse an archive that unpacks to far more than its size; torch.save compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_REUSE * path.stat().st_size:
        raise UserError(
            f"expected weights of {path.stat().st_size:,} bytes in {path}, got an archive that unpacks to "
            f"{unpacked:,}; {SAVE}"
        )


def _refuse_text(path: Path, start: bytes) -> None:
    """Refuse a file of text, such as what a download leaves in place of weights."""
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"expected weights in {path}, got a pointer of Git LFS to them; fetch them with git lfs pull")
    if start and start.isascii() and start.decode().replace("\n", " ").isprintable():
        raise UserError(f"expected weights in {path}, got text ({start[:40].decode()!r}); get the file again")


def _not_allowed(path: Path, error: Exception) -> str:
    """The classes and functions that a pickle wants and doesn't get, by their whole names."""
    try:
        with torch.serialization.safe_globals(ALLOWED):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # an old format, of which the error names the first alone, or none of torch's
        names = re.findall(r"GLOBAL (\S+)", str(error))[:1]
    return listed("", sorted(names)).strip() or f"more than tensors ({_first_line(error)})"


@dataclass(frozen=True)
class _Found:
    """Weights in what a file holds, or what is there instead, and what there is to know of them."""

    state: Any
    notes: tuple[str, ...] = ()


def _unwrapped(content: Any, path: Path) -> _Found:
    """The weights in what a file holds: averaged ones before the last ones; the whole where there are none."""
    states = dict(_states(content))
    averaged = [keys for keys in states if any(map(AVERAGED.search, keys))]
    last = _last([keys for keys in states if keys not in averaged], path)
    if not averaged:
        state = states[last] if last is not None else content
        unnamed = _unnamed_average(content)
        note = f"holds averaged weights without names ({unnamed}), which can't be used: these are the last ones"
        return _Found(_clean(state) if _is_state(state) else state, (note,) if unnamed else ())
    state = _clean(states[averaged[0]])
    whole = _clean(states[last]) if last is not None else {}
    # Some average parameters alone, so that means and variances of batch norms are where the last weights are
    lacking = [name for name in whole if name not in state] if state.keys() < whole.keys() else []
    rest = f"; {listed('', lacking).strip()} are among the last ones alone" if lacking else ""
    note = f"holds averaged weights ({'.'.join(averaged[0])}), which are used, not the last ones{rest}"
    return _Found({**{name: whole[name] for name in lacking}, **state}, (note,))


def _states(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """All that could be weights, by the keys that lead to it."""
    if _is_state(content):
        # Not what optimizers and metrics keep: a network has a matrix
        if any(tensor.ndim > 1 for tensor in content.values()):
            yield keys, content
    elif isinstance(content, dict) and len(keys) < MAX_DEPTH:
        for name, value in content.items():
            if isinstance(name, str) and not name.startswith("optim"):
                yield from _states(value, (*keys, name))


def _last(candidates: list[tuple[str, ...]], path: Path) -> tuple[str, ...] | None:
    """Which of them are the weights of the last step: those of a usual name, else the only ones; None where none is."""
    usual = [keys for wrapper in WRAPPERS for keys in candidates if keys[:1] == (wrapper,)]
    if usual or len(candidates) < 2:
        return next(iter(usual or candidates), None)
    raise UserError(
        f"expected weights of one network in {path}, got those of {len(candidates)} "
        f"({', '.join(map('.'.join, candidates[:NUM_NAMED]))}); save the state dict of the one that is meant"
    )


def _unnamed_average(content: Any) -> str:
    """The key of averaged weights that are a list; empty where there is none."""
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(name, str) and AVERAGED.search(name):
            parts = value.values() if isinstance(value, dict) else [value]
            if any(isinstance(part, list) and part and isinstance(part[0], Tensor) for part in parts):
                return name
    return ""


def _clean(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers add."""
    return _without_prefixes({WITHIN.sub("", name): tensor for name, tensor in state.items() if name != COUNTER})


def _is_state(content: Any) -> bool:
    """Whether it is tensors by name."""
    return isinstance(content, dict) and bool(content) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )  # fmt: skip


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers put before every name; they are nested in any order."""
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _arguments(content: Any) -> Mapping[str, Any]:
    """The arguments of the training, as timm's and torchvision's scripts keep them; empty where there are none."""
    arguments = content.get("args") if isinstance(content, dict) else None
    arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    return arguments if isinstance(arguments, dict) else {}


def _description(content: Any) -> str:
    """What a file holds that is no state dict, for an error."""
    if isinstance(content, dict):
        others = ((name, value) for name, value in content.items() if not isinstance(value, Tensor))
        strange = next((f"{name}: {'no tensor' if isinstance(value, _Inert) else type(value).__name__}"
                        for name, value in others), "")  # fmt: skip
        return f"a dictionary with {strange}" if strange else "an empty one"
    return f"a {type(content).__name__}"


def _first_line(error: Exception) -> str:
    """The line of an error that names the reason, at most 160 characters and cut between words."""
    lines = str(error).strip().splitlines()
    useful = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]  # torch says it further down
    return textwrap.shorten((useful or lines or [type(error).__name__])[0].strip(), 160, placeholder=" ...")
