"""Batches that are ready when they are needed: looked up and sent to an accelerator while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

NUM_AHEAD = 3  # batches

Item = TypeVar("Item")


def on_device(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The batches on ``device``, in order.

    For a CUDA device a thread looks the next ones up, into memory from which the device reads without the processor,
    and they are sent beside its computations. Sent by the training loop itself, a batch would wait until the device has
    done all that it was given before, and the device then for the loop.
    """
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    stream = torch.cuda.Stream(device)

    def sent() -> Iterator[tuple[Tensor, torch.cuda.Event]]:
        for batch in batches:
            with torch.cuda.stream(stream):
                yield batch.pin_memory().to(device, non_blocking=True), stream.record_event()

    for batch, is_there in ahead(sent(), NUM_AHEAD):
        current = torch.cuda.current_stream(device)
        current.wait_event(is_there)
        batch.record_stream(current)  # else its memory could be given away while the step still reads it
        yield batch


def ahead(items: Iterable[Item], num: int) -> Iterator[Item]:
    """The items in order, of which a thread makes up to ``num`` before they are asked for."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:  # one thread, so they are made in order
        pending = deque(pool.submit(next, iterator, end) for _ in range(num))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, iterator, end))
                yield item  # type: ignore[misc]
        finally:
            for future in pending:
                future.cancel()
