"""The hook into diffusers: edit every x0 prediction inside a scheduler's own ``step``.

An edit ``delta`` of ``x0 = a x_t + b out`` is ``out + delta / b``, and the scheduler does the rest, multistep
history, noise and all. The prediction is edited, not the sample, so that one strength means the same at any number
of steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from prismkd.guidance.schedulers import X0Map, check_scheduler, x0_map


@contextmanager
def edit_x0(scheduler: Any, edit: Callable[[Tensor, X0Map], Tensor | None]) -> Iterator[None]:
    """While active, ``scheduler.step`` moves every x0 prediction by ``edit(x0, x0_map)``.

    ``edit`` gets x0 in float32 and returns delta of its shape, or None to leave the step bit-identical. The
    scheduler's class is swapped for a subclass and restored on exit: pipelines inspect the signature of ``step``,
    and a callback would come too late (x_t is overwritten) or isn't offered at all (PixArt, DiT).

    Raises:
        UserError: the scheduler isn't supported.
    """
    check_scheduler(scheduler)
    original = type(scheduler)

    @functools.wraps(original.step)
    def step(self: Any, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        mapping = x0_map(self, timestep)
        delta = edit(mapping.a * sample.float() + mapping.b * model_output.float(), mapping)
        if delta is not None:
            model_output = (model_output.float() + delta / mapping.b).to(model_output.dtype)
        return original.step(self, model_output, timestep, sample, *args, **kwargs)

    scheduler.__class__ = type(original.__name__, (original,), {"step": step})
    try:
        yield
    finally:
        scheduler.__class__ = original
