"""The adapter while it is trained: low-rank matrices beside the layers of the denoiser (LoRA, Hu et al. 2021), by peft.

``W' = W + B A`` with A (rank, inputs) and B (outputs, rank), and alpha = rank, so that no file has to say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from prismkd.errors import UserError
from prismkd.files import make_folder, write, write_json
from prismkd.foreign import ADAPTER
from prismkd.generators.lora import DIFFUSERS_WEIGHTS, PEFT_PREFIX, PEFT_WEIGHTS, name_of_denoiser

NAME = "default"  # peft's name of an adapter
ADAPTED = re.compile(r"(^|\.)(attn\d*|ff|ff_context|feed_forward)\.")  # attention and feed-forward, in every kind


class LowRank:
    """Low-rank matrices in a network, and their values by the name of their layer."""

    def __init__(self, network: nn.Module, adapter: Any) -> None:
        self.network, self._adapter = network, adapter

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """By their names in a file: ``LAYER.lora_A.weight``, ``LAYER.lora_B.weight``."""
        return {name.replace(f".{NAME}.", "."): parameter for name, parameter in self.network.named_parameters()
                if ".lora_A." in name or ".lora_B." in name}  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """A copy of all matrices on the CPU."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    @contextmanager
    def off(self) -> Iterator[None]:
        """While active, the network is as it was without them."""
        self._adapter.disable_adapter_layers()
        try:
            yield
        finally:
            self._adapter.enable_adapter_layers()

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Give the matrices these values."""
        for name, parameter in self.parameters.items():
            parameter.copy_(state[name])


@contextmanager
def low_rank(pipeline: Any, rank: int, seed: int) -> Iterator[LowRank]:
    """While active, the pipeline's denoiser has an adapter beside its layers, which changes nothing at first.

    Raises:
        UserError: no layer of it can be adapted.
    """
    from peft import LoraConfig, LoraModel

    network = getattr(pipeline, name_of_denoiser(pipeline))
    layers = [
        name for name, module in network.named_modules() if isinstance(module, nn.Linear) and ADAPTED.search(name)
    ]
    if not layers:
        raise UserError(
            f"expected a denoiser with layers of attention to adapt, got {type(network).__name__}; choose methods "
            "without adaptation"
        )
    compiled = network._compiled_call_impl
    with torch.random.fork_rng([]):  # on the CPU, whose numbers are the same everywhere
        torch.manual_seed(seed)
        # B is zero at first. Float32 whatever the pipeline's precision, in which small steps would be lost.
        adapter = LoraModel(network, LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), NAME)
    try:
        # Compiled code would be made anew for what replaces the layers, and again when they are back
        network._compiled_call_impl = None
        yield LowRank(network, adapter)
    finally:
        adapter.unload()
        network._compiled_call_impl = compiled


def save_adapter(pipeline: Any, state: dict[str, Tensor], rank: int, folder: Path) -> None:
    """Write an adapter as ``pipe.load_lora_weights`` reads it; for pipelines without that, as peft does.

    Args:
        pipeline: that it is of.
        state: as of ``LowRank.state``.
        rank: of its matrices.
        folder: gets the file, and perhaps peft's description beside it.
    """
    make_folder(folder)
    if hasattr(pipeline, "load_lora_weights"):
        part = name_of_denoiser(pipeline)
        write(folder / DIFFUSERS_WEIGHTS, save({f"{part}.{name}": tensor for name, tensor in state.items()}))
        return
    layers = sorted({name.partition(".lora_")[0] for name in state})
    write_json(folder / ADAPTER, {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": layers})
    write(folder / PEFT_WEIGHTS, save({f"{PEFT_PREFIX}{name}": tensor for name, tensor in state.items()}))
