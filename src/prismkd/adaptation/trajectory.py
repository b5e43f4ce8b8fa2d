"""One batch's denoising, recorded step by step, and played again with gradients in some of its steps.

A pipeline does more between its denoiser and its scheduler than anybody wants to write down for every kind: doubled
batches, classifier-free guidance, learned variances, packed latents. Here the pipeline itself does it both times. The
first time it draws without gradients and without the adapter, perhaps guided by the teacher's energy, until the band of
guided steps is over. The second time it gets back what was recorded, but for the steps of the band: there the denoiser
runs with the adapter, on the same x_t, and a gradient leads from the x0 prediction to the adapter's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.config import GuidanceConfig
from prismkd.generators import TextToImage
from prismkd.generators.lora import name_of_denoiser
from prismkd.guidance import EnergyGuidance, X0Map, in_band
from prismkd.guidance.hook import replaced_step


class _Over(Exception):  # noqa: N818
    """Ends a pipeline's call whose remaining steps nobody needs."""


@dataclass(eq=False)
class Step:
    """One denoising step.

    Attributes:
        outputs: of the denoiser's calls in it.
        mapping: x0 from the output, and the level of noise.
        x0: (batch, ...) the prediction without the adapter.
        delta: (batch, ...) by which guidance moved it; None: not at all.
        result: what the scheduler's step returned.
        index: of the scheduler, behind the step; None where it has none.
    """

    outputs: list[Any] = field(default_factory=list)
    mapping: X0Map | None = None
    x0: Tensor | None = None
    delta: Tensor | None = None
    result: Any = None
    index: int | None = None


@dataclass(frozen=True)
class Trajectory:
    """A batch's steps from pure noise to the end of the band."""

    prompts: list[str]
    seeds: list[int]
    steps: list[Step]

    def in_band(self, config: GuidanceConfig) -> list[int]:
        """Places of the steps in the band."""
        return [place for place, step in enumerate(self.steps) if step.mapping and in_band(step.mapping, config)]


def record(generator: TextToImage, prompts: list[str], seeds: list[int], guidance: EnergyGuidance) -> Trajectory:
    """Draw up to the end of the guidance's band; its strength may be 0."""
    steps, config = [Step()], guidance.config

    def edit(x0: Tensor, mapping: X0Map) -> Tensor | None:
        if mapping.log_snr > config.log_snr_max or mapping.is_last:
            raise _Over
        step = steps[-1]
        step.x0, step.mapping, step.delta = x0.detach().clone(), mapping, guidance(x0, mapping)
        return step.delta

    def finish(step: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        now = steps[-1]
        now.result = step(scheduler, *args, **kwargs)
        now.index = getattr(scheduler, "step_index", None)
        steps.append(Step())
        return now.result

    def forward(run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        output = run(*args, **kwargs)
        steps[-1].outputs.append(output)
        return output

    with _denoiser(generator, forward), generator.guided(edit, len(prompts)):
        _draw(generator, prompts, seeds, finish)
    return Trajectory(prompts, seeds, [step for step in steps if step.result is not None])


def replay(
    generator: TextToImage, trajectory: Trajectory, places: list[int], learn: Callable[[Step, Tensor], None]
) -> None:  # fmt: skip
    """Go through a trajectory again, the denoiser running with gradients at ``places`` of its steps.

    Args:
        generator: that it was recorded with.
        trajectory: as recorded.
        places: of its steps, ascending.
        learn: called at each of them with the step as it was recorded and the prediction x0 (batch, ...) of now, from
            which a gradient leads to the denoiser's weights.
    """
    steps, turn, calls = trajectory.steps, 0, 0

    def forward(run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        nonlocal calls
        if turn in places:
            torch.set_grad_enabled(True)  # up to the scheduler's step: the pipeline mixes outputs in between
            return run(*args, **kwargs)
        calls += 1
        return steps[turn].outputs[calls - 1]

    def advance(
        step: Callable[..., Any], scheduler: Any, output: Tensor, timestep: Any, sample: Tensor, **kwargs: Any
    ) -> Any:
        nonlocal turn, calls
        now = steps[turn]
        if turn in places:
            assert now.mapping is not None
            seen = generator.layout.wrap(lambda x0, _: learn(now, x0), len(trajectory.prompts))
            seen(now.mapping.a * sample.float() + now.mapping.b * output.float(), now.mapping)
            torch.set_grad_enabled(False)
        if turn == places[-1]:
            raise _Over
        turn, calls = turn + 1, 0
        if now.index is not None:
            scheduler._step_index = now.index
        return now.result

    with _denoiser(generator, forward), generator.layout.following_calls():
        _draw(generator, trajectory.prompts, trajectory.seeds, advance)


def _draw(generator: TextToImage, prompts: list[str], seeds: list[int], step: Callable[..., Any]) -> None:
    """Call the pipeline with ``step`` in place of its scheduler's; where that ends it, nothing is left undone."""
    was_enabled = torch.is_grad_enabled()
    try:
        generator.call(prompts, seeds, lambda scheduler: replaced_step(scheduler, step))
    except _Over:
        return
    finally:
        torch.set_grad_enabled(was_enabled)


@contextmanager
def _denoiser(generator: TextToImage, forward: Callable[..., Any]) -> Iterator[None]:
    """While active, the denoiser's ``forward(*args, **kwargs)`` is ``forward(its own, args, kwargs)``."""
    network: nn.Module = getattr(generator.pipeline, name_of_denoiser(generator.pipeline))
    own, replaced = network.forward, vars(network).get("forward")
    network.forward = lambda *args, **kwargs: forward(own, args, kwargs)
    try:
        yield
    finally:
        del network.forward  # the class's own comes back
        if replaced is not None:
            network.forward = replaced
