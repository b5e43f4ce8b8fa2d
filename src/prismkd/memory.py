"""Batches that memory can't hold: the one path of all that looks at images, or draws them, in batches of any size."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from prismkd.errors import UserError, warn

UNLOADED = "failed to map segment from shared object"  # the words of Linux where a library doesn't fit

Outcome = TypeVar("Outcome")  # what is made of one batch


class HasBatchSize(Protocol):
    """Whoever knows how many images go together, such as a generator."""

    batch_size: int


@dataclass
class BatchSize:
    """How many images go together, at most."""

    batch_size: int


def in_batches(
    count: int, sizes: HasBatchSize, do: Callable[[slice], Outcome], remedy: str
) -> Iterator[tuple[slice, Outcome]]:
    """Do something with ``count`` images, batch by batch and in their order.

    Where memory runs out the batch is halved and tried again; the smaller size is kept by ``sizes`` for all that
    follows.

    Args:
        count: of images.
        sizes: says how many go together; whoever shares it shares what was found out.
        do: called with the places of a batch. An image's outcome must not depend on the others of its batch.
        remedy: what to do where there is no memory for one image.

    Yields:
        Each batch's places and outcome.

    Raises:
        UserError: there is no memory for one image.
    """
    start = 0
    while start < count:
        batch = slice(start, min(start + sizes.batch_size, count))
        try:
            outcome = do(batch)
        except Exception as error:  # frameworks have no common type for it
            if not ran_out_of_memory(error):
                raise
        else:
            yield batch, outcome
            start = batch.stop
            continue
        # Only now, when the error is gone with its frames, which hold the tensors of the failed batch.
        sizes.batch_size = _halved(batch.stop - start, remedy)
        _give_back()


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error is of memory, of the machine's or of an accelerator's."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, ImportError) and UNLOADED in str(error):
        return True
    if "torch" not in sys.modules:
        return False
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    known: Any = error  # accelerate knows the words of each framework, but for those of cuBLAS and cuDNN
    return (
        isinstance(error, torch.OutOfMemoryError)
        or should_reduce_batch_size(known)
        or (isinstance(error, RuntimeError) and "_STATUS_ALLOC_FAILED" in str(error))
    )


def no_memory(error: BaseException) -> UserError:
    """What a user is told where memory ran out and nothing can be halved."""
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return UserError(
        f"expected enough memory, got: {reason}; free some, lower generator.batch_size or distillation.batch_size, "
        "use generator.dtype bfloat16, or set generator.offload; then give the same command again"
    )


def _halved(tried: int, remedy: str) -> int:
    if tried == 1:
        raise UserError(f"expected memory for one image at a time, got none; {remedy}")
    warn(f"memory ran out with {tried} images together; going on with {tried // 2}")
    return tried // 2


def _give_back() -> None:
    """Blocks of the large batch's sizes would else stay reserved beside those of the smaller one."""
    gc.collect()
    if "torch" in sys.modules:
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache()
