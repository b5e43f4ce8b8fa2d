"""Where lower precision is faster at no cost that we could measure."""

from __future__ import annotations

import torch


def fast_matmul(device: torch.device) -> torch.autocast:
    """A context in which a CPU that computes bfloat16 products natively uses them: 2 to 5 times as fast there.

    On other CPUs, which emulate them and would be slower, and on accelerators, whose precision has a setting of its
    own, it changes nothing.
    """
    # The bare ability to compute in bfloat16 says nothing, every CPU can: what counts are these instructions.
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("arm_bf16")
    return torch.autocast("cpu", torch.bfloat16, enabled=device.type == "cpu" and bool(native))
