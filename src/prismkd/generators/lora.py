"""LoRA adapters of the user's own (Hu et al. 2021), fused into the pipeline's weights.

``W' = W + weight (alpha / rank) B A`` for every layer that an adapter has. Fused, they cost nothing at any step, and
nothing that comes later has to know of them. diffusers translates the names that kohya and others give to layers; the
rest is done here, as its loaders and peft's take an incomplete or foreign file for a good one.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite, prod, sqrt
from os.path import isdir, isfile  # a name that no file system would take is none that exists
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from prismkd.config.sources import adapter_of
from prismkd.errors import UserError
from prismkd.foreign import ADAPTER, opening, quiet, read_description
from prismkd.text import shortened

PEFT_WEIGHTS = "adapter_model.safetensors"  # beside ADAPTER, as peft saves an adapter
DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers' save_lora_weights
PEFT_PREFIX = "base_model.model."
DOWN = re.compile(r"(?P<layer>.+?)(?P<kind>\.lora_A|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight")
METADATA = "lora_adapter_metadata"  # of a file that diffusers has saved
MAX_RANK = 4096
TEXT_NAMES = {r"self_attn\.to_([qkv])$": r"self_attn.\1_proj", r"self_attn\.to_out(\.0)?$": "self_attn.out_proj"}
PEFT_ALPHA = 8  # peft's own default
# What of peft's description says how tensors become a change of weights; others leave W' another sum
OTHER_SUMS = {"use_dora": (False,), "fan_in_fan_out": (False,), "lora_bias": (False,), "bias": ("none",)}
OTHER_STARTS = ("pissa", "olora", "corda", "loftq")  # these change W too when they begin
REMEDY = "give a LoRA adapter that was trained for this generator"


@dataclass(frozen=True)
class Adapter:
    """One entry of ``generator.lora``.

    Attributes:
        file: its weights, safetensors.
        weight: by which it is multiplied.
    """

    file: Path
    weight: float

    @classmethod
    def of(cls, entry: str) -> Adapter:
        """An adapter as it is named: a file or a folder, perhaps with ``@WEIGHT`` behind it.

        Raises:
            UserError: there is no such file, or its weight isn't finite.
        """
        path, weight = adapter_of(entry)
        if not isfinite(weight):
            raise UserError(f"expected a weight that is a number in generator.lora, got {entry}; such as 0.8")
        return cls(_weights_in(path), weight)

    @property
    def description_file(self) -> Path:
        """Where peft says how it was trained; another program's file has none."""
        return self.file.with_name(ADAPTER)


def adapters_of(entries: Iterable[str]) -> list[Adapter]:
    """The adapters of ``generator.lora``. Raises UserError as ``Adapter.of``."""
    return [Adapter.of(entry) for entry in entries]


def fuse_adapters(pipeline: Any, adapters: Sequence[Adapter]) -> dict[nn.Module, Tensor]:
    """Add adapters to the pipeline's weights.

    Returns:
        The weights that were replaced, on the CPU, by their layers.

    Raises:
        UserError: an adapter is damaged, isn't LoRA alone, or is of another network.
    """
    replaced = dict[nn.Module, Tensor]()
    for adapter in adapters:
        what = f"a LoRA adapter of {type(pipeline).__name__} in {adapter.file}"
        with opening(what, REMEDY), torch.no_grad():
            matrices = _by_layer(_translated(pipeline, _scaled(adapter)))
            changes = [(_layer_of(pipeline, layer, what), *pair) for layer, pair in matrices.items()]
            for module, down, up in changes:
                replaced.setdefault(module, cast(Tensor, module.weight).detach().cpu().clone())
                _add(module, down, up, what)
    return replaced


@torch.no_grad()
def restore_weights(replaced: Mapping[nn.Module, Tensor]) -> None:
    """Take adapters out again: the layers have the weights that ``fuse_adapters`` replaced, bit for bit."""
    for module, weight in replaced.items():
        cast(Tensor, module.weight).copy_(weight)


def _weights_in(path: Path) -> Path:
    """The file of an adapter, or the one in its folder."""
    if isdir(path):
        found = [path / name for name in (PEFT_WEIGHTS, DIFFUSERS_WEIGHTS) if isfile(path / name)]
        found = found or sorted(path.glob("*.safetensors"))
        if len(found) == 1:
            return found[0]
        raise UserError(f"expected one file of LoRA weights in {path}, got {len(found)}; name the file")
    if not isfile(path) or path.suffix != ".safetensors":
        raise UserError(
            f"expected a LoRA adapter in safetensors at {path}, got {'another file' if isfile(path) else 'none'}; "
            "download it first, or check the path"
        )
    return path


# --- the file --------------------------------------------------------------------------------------------------------


def _scaled(adapter: Adapter) -> dict[str, Tensor]:
    """The file's pairs of matrices by their names, ``weight (alpha / rank)`` in the second one of each.

    Raises:
        UserError: a tensor that is no part of a pair, or a shape or scale that can't be.
    """
    with safe_open(adapter.file, "pt") as file:
        names, metadata = set(file.keys()), file.metadata() or {}
        pairs = {found["layer"]: (name, _up_of(name)) for name in names if (found := DOWN.fullmatch(name))}
        alphas = {layer: f"{layer}.alpha" for layer in pairs if f"{layer}.alpha" in names}
        known = {name for pair in pairs.values() for name in pair} | set(alphas.values())
        if not pairs or known != names:
            missing, odd = sorted(known - names), sorted(names - known)
            got = f"no {shortened(missing[0])}" if missing else shortened(odd[0]) if odd else "none"
            raise UserError(f"expected pairs of LoRA matrices alone in {adapter.file}, got {got}; {REMEDY}")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        for down, up in pairs.values():
            _check_shapes(adapter.file, down, shapes[down], shapes[up])
        scales = _scales(adapter, metadata)
        state = dict[str, Tensor]()
        for layer, (down, up) in pairs.items():
            rank = shapes[down][0]
            if layer in alphas:
                scale = adapter.weight * float(file.get_tensor(alphas[layer]).float()) / rank
            else:
                of_part = next((scale for start, scale in scales.items() if layer.startswith(start)), _Scale())
                scale = adapter.weight * of_part(layer, rank)
            if not isfinite(scale):
                raise UserError(f"expected a finite scale of {layer} in {adapter.file}, got {scale}; {REMEDY}")
            state |= {down: file.get_tensor(down).float(), up: file.get_tensor(up).float() * scale}
    return state


def _up_of(down: str) -> str:
    """The name of a pair's second matrix."""
    found = DOWN.fullmatch(down)
    assert found is not None
    kind = found["kind"]
    return found["layer"] + kind.replace("lora_A", "lora_B").replace("down", "up") + ".weight"


def _check_shapes(file: Path, name: str, down: tuple[int, ...], up: tuple[int, ...]) -> None:
    """A (rank, inputs, ...) and B (outputs, rank, ...): nothing is multiplied before their sizes are known to fit."""
    fit = len(down) in (2, 4) and len(up) == len(down) and down[0] == up[1]
    fit = fit and 1 <= down[0] <= MAX_RANK and min(down + up) >= 1 and prod(up[2:]) == 1
    if not fit:
        raise UserError(
            f"expected matrices (rank, inputs) and (outputs, rank) for {shortened(name)} in {file}, got {down} and "
            f"{up}; {REMEDY}"
        )


@dataclass(frozen=True)
class _Scale:
    """What peft has noted of an adapter beside its tensors.

    Attributes:
        default: alpha of layers without their own; None: the rank.
        own: alpha by a layer's name or the end of it.
        by_root: whether alpha is divided by the root of the rank.
    """

    default: float | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    by_root: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> _Scale:
        """From peft's settings in ``file``.

        Raises:
            UserError: they say that the tensors are to be added in another way, or what can't be.
        """
        kind, start = settings.get("peft_type", "LORA"), str(settings.get("init_lora_weights", True))
        odd = [name for name, usual in OTHER_SUMS.items() if settings.get(name, usual[0]) not in usual]
        odd += ["init_lora_weights"] if start.startswith(OTHER_STARTS) else []
        if kind != "LORA" or odd:
            got = f"{odd[0]} = {shortened(settings[odd[0]])}" if odd else shortened(kind)
            raise UserError(f"expected plain LoRA in {file}, got {got}; {REMEDY}")
        default, own = settings.get("lora_alpha", PEFT_ALPHA), settings.get("alpha_pattern") or {}
        # Names, and no regular expressions as peft would take them: some of these never end
        plain = isinstance(own, dict) and all(re.fullmatch(r"[\w.]+", name) for name in own)
        if not plain or not all(isinstance(value, int | float) for value in (default, *own.values())):
            raise UserError(f"expected numbers by names of layers for alpha in {file}, got others; {REMEDY}")
        return cls(
            float(default), {name: float(value) for name, value in own.items()}, bool(settings.get("use_rslora"))
        )

    def __call__(self, layer: str, rank: int) -> float:
        """alpha / rank of a layer by its name in the file."""
        of_layer = (alpha for name, alpha in self.own.items() if layer == name or layer.endswith(f".{name}"))
        alpha = next(of_layer, rank if self.default is None else self.default)
        return alpha / (sqrt(rank) if self.by_root else rank)


def _scales(adapter: Adapter, metadata: Mapping[str, str]) -> dict[str, _Scale]:
    """By the beginning of layers' names: of a file's metadata, or of what peft has saved beside it.

    Raises:
        UserError: as ``_Scale.of``, or peft's description is missing.
    """
    if METADATA in metadata:
        parts = dict[str, dict[str, Any]]()
        for name, value in json.loads(metadata[METADATA]).items():
            part, _, setting = name.partition(".")
            parts.setdefault(f"{part}.", {})[setting] = value
        return {part: _Scale.of(settings, adapter.file) for part, settings in parts.items()}
    if adapter.file.name == PEFT_WEIGHTS:
        path = adapter.description_file
        if not isfile(path):
            raise UserError(f"expected {ADAPTER} beside {adapter.file}, got none; get the folder again")
        return {"": _Scale.of(read_description(path), path)}
    return {}


# --- names -----------------------------------------------------------------------------------------------------------


def _translated(pipeline: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of the pipeline's parts: ``unet.down_blocks.0...to_q.lora_A.weight``."""
    import diffusers.utils.logging

    denoiser = name_of_denoiser(pipeline)
    if all(name.startswith(PEFT_PREFIX) for name in state):
        return {f"{denoiser}.{name.removeprefix(PEFT_PREFIX)}": tensor for name, tensor in state.items()}
    translate = getattr(pipeline, "lora_state_dict", None)
    if translate is None:
        return state
    # Of SDXL's blocks kohya has other numbers, which follow from the network's own settings
    arguments = {"unet_config": pipeline.unet.config} if denoiser == "unet" else {}
    with quiet(diffusers.utils.logging), warnings.catch_warnings(action="ignore"):
        found = translate(dict(state), **arguments)
    return found[0] if isinstance(found, tuple) else found


def name_of_denoiser(pipeline: Any) -> str:
    """The part of a pipeline that runs at every step."""
    return "unet" if getattr(pipeline, "unet", None) is not None else "transformer"


def _by_layer(state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by the layer that they are of."""
    found = {}
    for name, down in state.items():
        if match := DOWN.fullmatch(name):
            found[match["layer"].replace(".processor.", ".")] = (down, state[_up_of(name)])
    return found


def _layer_of(pipeline: Any, name: str, what: str) -> nn.Module:
    """The layer that an adapter names.

    Raises:
        UserError: the pipeline has none of this name, or none with a matrix.
    """
    part, _, path = name.partition(".")
    if part not in pipeline.components:  # of the denoiser alone, saved without its name
        part, path = name_of_denoiser(pipeline), name
    network: Any = pipeline.components.get(part)
    if part.startswith("text_encoder"):
        for old, new in TEXT_NAMES.items():
            path = re.sub(old, new, path)
    # transformers has moved the encoder's layers out of text_model, and files name both places; old files leave out
    # which of the layers of to_out it is
    for place in (path, path.removeprefix("text_model."), f"text_model.{path}", f"{path}.0"):
        with suppress(AttributeError):  # no such part, no such layer in it, or a layer without weights
            module: nn.Module = network.get_submodule(place)
            if isinstance(module.weight, Tensor):
                return module
    raise UserError(f"expected {what}, got one of a layer that there isn't: {shortened(name)}; {REMEDY}")


def _add(module: nn.Module, down: Tensor, up: Tensor, what: str) -> None:
    """``W' = W + B A``, a convolution's A as the matrix of its flattened kernels."""
    weight: Any = module.weight
    shape = (len(up), *down.shape[1:])
    if tuple(weight.shape) != shape:
        raise UserError(f"expected {what}, got changes {shape} of weights {tuple(weight.shape)}; {REMEDY}")
    change = (up.flatten(1) @ down.flatten(1)).view(shape).to(weight.device)
    fused = (weight.float() + change).to(weight.dtype)
    if not fused.isfinite().all():
        raise UserError(f"expected {what} with finite weights, got others; lower its weight, or take another")
    weight.data = fused
