"""Whether a pipeline's scheduler can do as many steps as are set: found out at the start, with numbers for images."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch

from prismkd.config import GeneratorConfig
from prismkd.errors import UserError
from prismkd.foreign import opening


def check_sampling(pipeline: Any, config: GeneratorConfig) -> None:
    """Go through the steps of a copy of the scheduler, with four zeros in place of latents.

    Raises:
        UserError: it fails on one of them, they end in values that aren't finite, there are more than it was trained
            for, or the decoder can't make images of the size that is set.
    """
    name, num_steps = type(pipeline.scheduler).__name__, config.num_inference_steps
    num_trained = pipeline.scheduler.config.get("num_train_timesteps", num_steps)
    if isinstance(num_trained, int) and num_steps > num_trained:
        raise UserError(
            f"expected at most {num_trained} steps, as {name} was trained for, got generator.num_inference_steps = "
            f"{num_steps}; choose fewer"
        )
    with opening(f"a scheduler for {num_steps} steps ({name})", "choose more, or another generator.scheduler"):
        outputs = _rehearsed(copy.deepcopy(pipeline.scheduler), num_steps)
        if not bool(outputs[0].isfinite().all()):
            raise ValueError("values that aren't finite")
        # That pipeline takes the second value of a single step, which few schedulers have
        if type(pipeline).__name__ == "PixArtAlphaPipeline" and num_steps == 1 and len(outputs) < 2:
            raise ValueError("none that PixArtAlphaPipeline can use in a single step")
    scale = getattr(pipeline, "vae_scale_factor", 1)
    if config.image_size % scale:
        raise UserError(
            f"expected generator.image_size as a multiple of {scale}, which is what a latent of this pipeline stands "
            f"for, got {config.image_size}; choose {max(scale, config.image_size // scale * scale)}"
        )


def _rehearsed(scheduler: Any, num_steps: int) -> tuple[torch.Tensor, ...]:
    """What the last step gives, with a network that predicts zeros: latents, and of some schedulers more."""
    shift = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}  # which depends on the image's size
    scheduler.set_timesteps(num_steps, device="cpu", **shift)
    outputs: tuple[torch.Tensor, ...] = (torch.zeros(1, 1, 2, 2),)
    draws_noise = "generator" in inspect.signature(scheduler.step).parameters
    draws = {"generator": torch.Generator().manual_seed(0)} if draws_noise else {}
    for timestep in scheduler.timesteps:
        latents = outputs[0]
        if hasattr(scheduler, "scale_model_input"):  # which some want to have been called
            scheduler.scale_model_input(latents, timestep)
        outputs = scheduler.step(torch.zeros_like(latents), timestep, latents, return_dict=False, **draws)
    return outputs
