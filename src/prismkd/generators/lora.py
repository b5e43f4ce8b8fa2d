"""LoRA adapters of the user's own (Hu et al. 2021), fused into the pipeline's weights.

``W' = W + weight (alpha / rank) B A`` for every layer that an adapter has. Fused, they cost nothing at any step, and
nothing that comes later has to know of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from prismkd.config.sources import adapter_of
from prismkd.errors import UserError
from prismkd.foreign import ADAPTER, opening, quiet, read_description
from prismkd.text import shortened

PEFT_WEIGHTS = "adapter_model.safetensors"  # beside ADAPTER, as peft saves an adapter
DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers' save_lora_weights
DOWN = ("lora_A.weight", "lora_down.weight", "lora.down.weight")  # one tensor of each adapted layer, by who saved it
PEFT_PREFIX = "base_model.model."
REMEDY = "give the file of an adapter that was trained for this generator"


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
    def digest(self) -> str:
        """Of its bytes, those that stand beside them, and its weight."""
        digest = hashlib.sha256(repr(self.weight).encode())
        description = self.file.with_name(ADAPTER)
        for path in (self.file, *([description] if description.is_file() else [])):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def adapters_of(entries: Iterable[str]) -> list[Adapter]:
    """The adapters of ``generator.lora``. Raises UserError as ``Adapter.of``."""
    return [Adapter.of(entry) for entry in entries]


def fuse_adapters(pipeline: Any, adapters: Sequence[Adapter]) -> None:
    """Add adapters to the pipeline's weights.

    Raises:
        UserError: peft isn't installed, or an adapter is damaged or of another network.
    """
    if not adapters:
        return
    try:
        import peft  # noqa: F401
    except ImportError:
        raise UserError("expected the package peft for generator.lora, got none; pip install 'prismkd[lora]'") from None
    for adapter in adapters:
        what = f"a LoRA adapter of {type(pipeline).__name__} in {adapter.file}"
        with opening(what, REMEDY), torch.no_grad():
            fuse = _fuse_by_diffusers if hasattr(pipeline, "load_lora_weights") else _fuse_by_peft
            num_layers, num_fused = _num_layers(adapter.file), fuse(pipeline, adapter)
            # diffusers leaves out what it can't place, and only logs it
            if num_fused < num_layers or not num_layers:
                raise UserError(f"expected {what}, got {num_layers} layers of which it has {num_fused}; {REMEDY}")


def _weights_in(path: Path) -> Path:
    """The file of an adapter, or the one in its folder."""
    if path.is_dir():
        found = [path / name for name in (PEFT_WEIGHTS, DIFFUSERS_WEIGHTS) if (path / name).is_file()]
        found = found or sorted(path.glob("*.safetensors"))
        if len(found) == 1:
            return found[0]
        raise UserError(f"expected one file of LoRA weights in {path}, got {len(found)}; name the file")
    if not path.is_file() or path.suffix != ".safetensors":
        raise UserError(
            f"expected a LoRA adapter in safetensors at {path}, got {'another file' if path.is_file() else 'none'}; "
            "download it first, or check the path"
        )
    return path


def _num_layers(file: Path) -> int:
    """How many layers an adapter changes."""
    with safe_open(file, "pt") as opened:
        return sum(name.endswith(DOWN) for name in opened.keys())  # noqa: SIM118


def _fuse_by_diffusers(pipeline: Any, adapter: Adapter) -> int:
    """Of what diffusers loads, kohya's files among them; returns the number of layers."""
    import diffusers.utils.logging

    with quiet(diffusers.utils.logging):
        pipeline.load_lora_weights(
            str(adapter.file.parent),
            weight_name=adapter.file.name,
            adapter_name="prismkd",
            use_safetensors=True,
            local_files_only=True,
        )
    parts = [name for name in pipeline._lora_loadable_modules if getattr(pipeline, name, None) is not None]
    adapted = [name for name in parts if _lora_layers(getattr(pipeline, name))]
    num_layers = sum(len(_lora_layers(getattr(pipeline, name))) for name in adapted)
    pipeline.fuse_lora(components=adapted, lora_scale=adapter.weight, safe_fusing=True)
    pipeline.unload_lora_weights()
    return num_layers


def _fuse_by_peft(pipeline: Any, adapter: Adapter) -> int:
    """Of what peft saved of the denoiser, for pipelines whose adapters diffusers doesn't load (PixArt, DiT)."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    network = pipeline.transformer
    description = read_description(adapter.file.with_name(ADAPTER))
    state = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in load_file(adapter.file).items()}
    others = [name for name in state if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
    if others:
        raise UserError(f"expected LoRA weights alone in {adapter.file}, got {shortened(others[0])}; {REMEDY}")
    ranks = {name.removesuffix(".lora_A.weight"): len(tensor) for name, tensor in state.items() if "lora_A" in name}
    targets = sorted(ranks.keys() & {name for name, _ in network.named_modules()})
    if len(targets) < len(ranks):
        return len(targets)
    alphas = description.get("alpha_pattern") or {}
    # peft takes the names for regular expressions, and some of these never end
    if not (isinstance(alphas, dict) and all(re.fullmatch(r"\^?[\w.]+\$?", name) for name in alphas)):
        raise UserError(f"expected names of layers in alpha_pattern of {adapter.file.parent}, got others; {REMEDY}")
    # Which layers and what ranks the tensors say; only the scale stands in the description alone.
    config = LoraConfig(
        r=ranks[targets[0]],
        rank_pattern={f"^{name}$": rank for name, rank in ranks.items()},
        lora_alpha=description.get("lora_alpha", 8),
        alpha_pattern=alphas,
        use_rslora=bool(description.get("use_rslora", False)),
        target_modules=targets,
    )
    inject_adapter_in_model(config, network)
    set_peft_model_state_dict(network, state)
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer)]
    for name, module in layers:
        module.scale_layer(adapter.weight)
        module.merge(safe_merge=True)
        network.set_submodule(name, module.get_base_layer())
    del network.peft_config
    return len(layers)


def _lora_layers(network: nn.Module) -> list[nn.Module]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
