"""A network in the making may not be larger than the weights that it is to get.

A configuration of a few bytes may ask for a million layers or for a layer of terabytes. Modules register each tensor
before they fill it, and memory is taken from the system only when it is filled: whatever registers too much is refused
before that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth")
# Libraries register a parameter up to three times: empty, filled, and tied to another
SPARE_FACTOR = 4
SPARE_TENSORS, SPARE_VALUES = 500, 2**24  # for buffers that aren't stored, such as tables of positions
MAX_MODULES = 10_000  # of all networks of one loading; the largest that draw or classify images have a few thousand
MAX_TENSORS = 10_000  # where the number of stored ones isn't known


class TooLargeError(Exception):
    """A network that is larger than its weights."""


@dataclass(frozen=True)
class Budget:
    """How large weights are.

    Attributes:
        num_bytes: of all tensors; a value has a byte at least.
        num_tensors: that there are.
    """

    num_bytes: int
    num_tensors: int = MAX_TENSORS

    @staticmethod
    def of_state(state: Mapping[str, Tensor]) -> Budget:
        """Of weights in memory."""
        return Budget(sum(tensor.numel() * tensor.element_size() for tensor in state.values()), len(state))

    @staticmethod
    def of_folder(folder: Path) -> Budget:
        """Of all files with weights in a folder and those below it; links count as what they lead to.

        Raises:
            SafetensorError: one of them is damaged.
        """
        files = [path for path in folder.rglob("*") if path.suffix in WEIGHT_FILES and path.is_file()]
        num_tensors = 0
        for path in files:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    num_tensors += len(file.keys())
            else:
                num_tensors += MAX_TENSORS
        return Budget(sum(path.stat().st_size for path in files), num_tensors)


@contextmanager
def no_larger_than(budget: Budget) -> Iterator[None]:
    """While active, this thread builds networks of the size of these weights, and of ``MAX_MODULES`` modules at most.

    Raises:
        TooLargeError: out of the constructor that goes beyond.
    """
    max_values = SPARE_FACTOR * budget.num_bytes + SPARE_VALUES
    max_tensors = SPARE_FACTOR * budget.num_tensors + SPARE_TENSORS
    num_values = num_tensors = num_modules = 0
    thread = threading.get_ident()

    def count_tensors(module: Any, name: str, tensor: Any) -> None:
        nonlocal num_values, num_tensors
        if tensor is None or threading.get_ident() != thread:
            return
        num_values, num_tensors = num_values + tensor.numel(), num_tensors + 1
        if num_values > max_values or num_tensors > max_tensors:
            raise TooLargeError(
                f"a network larger than its weights of {budget.num_bytes:,} bytes (at {name} {tuple(tensor.shape)} of "
                f"{type(module).__name__})"
            )

    def count_modules(module: Any, name: str, child: Any) -> None:
        nonlocal num_modules
        num_modules += threading.get_ident() == thread
        if num_modules > MAX_MODULES:
            raise TooLargeError(f"a network of more than {MAX_MODULES:,} modules")

    with ExitStack() as stack:
        for handle in (
            register_module_parameter_registration_hook(count_tensors),
            register_module_buffer_registration_hook(count_tensors),
            register_module_module_registration_hook(count_modules),
        ):
            stack.callback(handle.remove)
        yield
