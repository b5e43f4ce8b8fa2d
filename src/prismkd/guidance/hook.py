"""The hook into diffusers: edit every x0 prediction inside a scheduler's own ``step``, and seed its noise.

An edit ``delta`` of ``x0 = a x_t + b out`` is ``out + delta / b``, and the scheduler does the rest, multistep
history, noise and all. The prediction is edited, not the sample, so that one strength means the same at any number
of steps.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from prismkd.guidance.schedulers import X0Map, check_scheduler, x0_map

Step = Callable[..., Any]


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

    def edited(step: Step, self: Any, model_output: Tensor, timestep: Any, sample: Tensor, **kwargs: Any) -> Any:
        mapping = x0_map(self, timestep)
        delta = edit(mapping.a * sample.float() + mapping.b * model_output.float(), mapping)
        if delta is not None:
            model_output = (model_output.float() + delta / mapping.b).to(model_output.dtype)
        return step(self, model_output, timestep, sample, **kwargs)

    with _replaced_step(scheduler, edited):
        yield


@contextmanager
def seeded_steps(scheduler: Any, generators: list[torch.Generator]) -> Iterator[None]:
    """While active, a stochastic ``scheduler.step`` draws image i's noise from ``generators[i]``.

    Some pipelines (DiT, SD 3, Flux) pass none, and the noise would come from torch's global state.
    """
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters

    def seeded(step: Step, self: Any, model_output: Tensor, timestep: Any, sample: Tensor, **kwargs: Any) -> Any:
        if takes_generator and kwargs.get("generator") is None:
            copies = len(sample) // len(generators)  # DiT steps a doubled batch, and keeps the first half
            kwargs["generator"] = generators * copies
        return step(self, model_output, timestep, sample, **kwargs)

    with _replaced_step(scheduler, seeded):
        yield


@contextmanager
def _replaced_step(scheduler: Any, around: Callable[..., Any]) -> Iterator[None]:
    """While active, ``around(step, self, ...)`` stands for the scheduler's ``step``, with the same signature."""
    original = type(scheduler)

    @functools.wraps(original.step)
    def step(self: Any, model_output: Tensor, timestep: Any, sample: Tensor, **kwargs: Any) -> Any:
        return around(original.step, self, model_output, timestep, sample, **kwargs)

    scheduler.__class__ = type(original.__name__, (original,), {"step": step})
    try:
        yield
    finally:
        scheduler.__class__ = original
