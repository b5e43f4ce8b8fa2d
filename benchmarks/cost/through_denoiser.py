"""Guidance with the gradient taken through the denoiser, as the rivals take it. For comparison only.

What the published methods do at a step, with x0(x_t) the denoiser's clean prediction and E an energy of it:

- DPS (Chung et al. 2023, algorithm 1): a DDPM step, then ``x_{t-1} -= zeta dE/dx_t``, E the squared norm of a
  measurement's residual and ``zeta`` divided by that norm; every step.
- FreeDoM (Yu et al. 2023, algorithms 1 and 2): the same with any energy, ``rho_t dE/dx_t``, and in the middle of the
  schedule each step is repeated a few times after adding noise again ("time travel").
- DiffDFKD: every step, ``E = 0.1 L_BN + CE + L_adv`` of the decoded x0, step length 1.

What is simplified here: DDIM without noise in place of DDPM; no time travel; any energy; and the step is normalized
per sample like ours, ``delta = -strength rms(x0) g / rms(g)`` with ``g = dE/dx_t``, entering as an edit of x0. On
x_{t-1} that is ``zeta_t g`` with ``zeta_t = (alpha' - sigma' alpha / sigma) strength rms(x0) / rms(g)``, so that a
strength means the same as in ``prismkd.guidance`` whatever the number of steps: only the gradient's path differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from prismkd.classifiers.precision import fast_matmul
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.guidance import rms

Prediction = Literal["epsilon", "v_prediction", "flow_prediction"]


@dataclass(frozen=True)
class NoiseLevel:
    """One point of the schedule, ``x_t = alpha x0 + sigma eps``; ``timestep`` is what the network is told."""

    alpha: float
    sigma: float
    timestep: float


CLEAN = NoiseLevel(1.0, 0.0, 0.0)  # where every schedule ends


def flow_levels(sigmas: Sequence[float], num_train_timesteps: int = 1000) -> list[NoiseLevel]:
    """Levels of a flow-matching schedule, ``x_t = (1 - sigma) x0 + sigma eps``, from falling sigmas above 0."""
    return [NoiseLevel(1 - sigma, sigma, sigma * num_train_timesteps) for sigma in sigmas] + [CLEAN]


def variance_preserving_levels(alphas_cumprod: Tensor, timesteps: Sequence[int]) -> list[NoiseLevel]:
    """Levels of a diffusion schedule, ``alpha^2 = alphas_cumprod[t]`` and ``alpha^2 + sigma^2 = 1``, from falling t."""
    bars = [float(alphas_cumprod[t]) for t in timesteps]
    return [NoiseLevel(bar**0.5, (1 - bar) ** 0.5, t) for bar, t in zip(bars, timesteps, strict=True)] + [CLEAN]


def output_to_x0(output: Tensor, x: Tensor, level: NoiseLevel, prediction: Prediction) -> Tensor:
    """The clean prediction x0 from the network's output at ``x = alpha x0 + sigma eps``."""
    if prediction == "epsilon":
        return (x - level.sigma * output) / level.alpha
    if prediction == "v_prediction":  # v = alpha eps - sigma x0, with alpha^2 + sigma^2 = 1
        return level.alpha * x - level.sigma * output
    return x - level.sigma * output  # eps - x0, with alpha = 1 - sigma


def sample_through_denoiser(
    predict: Callable[[Tensor, NoiseLevel], Tensor],
    x: Tensor,
    levels: Sequence[NoiseLevel],
    energy: Callable[[Tensor], Tensor] | None = None,
    strength: float = 0.0,
    *,
    prediction: Prediction = "epsilon",
    guided: Callable[[NoiseLevel], bool] = lambda level: True,
) -> Tensor:
    """DDIM without noise (Song et al. 2021, eq. 12, eta = 0), each x0 moved down the energy's gradient by x_t.

    Args:
        predict: x_t (batch, ...) and level to the network's output (batch, ...), differentiable; classifier-free
            guidance is inside.
        x: (batch, ...) the start, distributed like ``levels[0]``.
        levels: falling noise, the last without any.
        energy: x0 (batch, ...) to (batch,); called once per guided step.
        strength: length of a move relative to the root mean square of x0; at 0 the plain loop, bit for bit.
        prediction: what the network's output is.
        guided: which levels are guided; the published methods guide all.

    Returns:
        x0 (batch, ...).
    """
    for level, following in pairwise(levels):
        if energy is not None and strength and guided(level):
            x0 = _guided_x0(predict, x, level, energy, strength, prediction)
        else:
            with torch.no_grad():
                x0 = output_to_x0(predict(x, level), x, level, prediction)
        eps = (x - level.alpha * x0) / level.sigma
        x = following.alpha * x0 + following.sigma * eps
    return x


def _guided_x0(
    predict: Callable[[Tensor, NoiseLevel], Tensor],
    x: Tensor,
    level: NoiseLevel,
    energy: Callable[[Tensor], Tensor],
    strength: float,
    prediction: Prediction,
) -> Tensor:
    """``x0 - strength rms(x0) g / rms(g)`` with g the gradient of the energy by x_t, through the denoiser."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        x0 = output_to_x0(predict(x, level), x, level, prediction)
        (g,) = torch.autograd.grad(energy(x0).sum(), x)
    g, x0 = torch.nan_to_num(g), x0.detach()
    return x0 - strength * rms(x0) * g / rms(g).clamp_min(1e-12)


def images_through_denoiser(
    generator: TextToImage,
    prompts: list[str],
    seeds: list[int],
    energy: Callable[[Tensor], Tensor] | None = None,
    strength: float = 0.0,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    guided: Callable[[NoiseLevel], bool] = lambda level: True,
) -> Tensor:
    """Draw pictures with a flow-matching PixArt pipeline such as the embedded one, from ``generator.sample``'s noise.

    Args:
        generator: its configuration gives the steps and the guidance scale. Its denoiser's weights are frozen.
        prompts, seeds: one per image.
        energy: images (batch, channels, height, width) in [0, 1] to (batch,), such as
            ``lambda images: hinge_energy(teacher(images), labels, target)``.
        strength: length of a move relative to the root mean square of x0; 0 is plain DDIM.
        decode: latents to images for the energy; without it ``generator.decode``. The pictures come from the full one.
        guided: which levels are guided.

    Returns:
        Images (batch, channels, height, width) float32 in [0, 1].

    Raises:
        UserError: the pipeline is of another kind.
    """
    _check_pipeline(generator.pipeline)
    pipeline, config, to_images = generator.pipeline, generator.config, decode or generator.decode
    pipeline.transformer.requires_grad_(False)
    with fast_matmul(generator.device):
        predict = pixart_predictor(pipeline.transformer, *encode_prompts(generator, prompts), config.guidance_scale)
        latents = sample_through_denoiser(
            predict, initial_noise(generator, seeds), flow_levels_of(pipeline, config.num_inference_steps),
            energy and (lambda x0: energy(to_images(x0))), strength,
            prediction="flow_prediction", guided=guided)  # fmt: skip
        with torch.no_grad():
            return generator.decode_fully(latents).cpu()


def _check_pipeline(pipeline: Any) -> None:
    kind, prediction = type(pipeline).__name__, pipeline.scheduler.config.get("prediction_type")
    if not kind.startswith("PixArt") or prediction != "flow_prediction":
        raise UserError(
            f"expected a PixArt pipeline with flow_prediction, got {kind} with {prediction}; write its `predict` and "
            "call sample_through_denoiser"
        )


def initial_noise(generator: TextToImage, seeds: list[int]) -> Tensor:
    """The noise from which ``generator.sample`` starts with these seeds."""
    pipeline = generator.pipeline
    side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    return pipeline.prepare_latents(
        len(seeds), pipeline.transformer.config.in_channels, side, side, torch.float32, generator.device,
        [torch.Generator().manual_seed(seed) for seed in seeds])  # fmt: skip


def flow_levels_of(pipeline: Any, num_steps: int) -> list[NoiseLevel]:
    """The noise levels that the pipeline's own scheduler would pass."""
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(num_steps)
    return flow_levels(scheduler.sigmas[:-1].tolist(), scheduler.config.num_train_timesteps)


def encode_prompts(generator: TextToImage, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Text features (2 n, tokens, width) and mask (2 n, tokens) of a PixArt pipeline, those of no prompt first."""
    arguments = generator.prompt_arguments(prompts)
    features = torch.cat([arguments["negative_prompt_embeds"], arguments["prompt_embeds"]])
    return features, torch.cat([arguments["negative_prompt_attention_mask"], arguments["prompt_attention_mask"]])


def pixart_predictor(
    transformer: torch.nn.Module, features: Tensor, mask: Tensor, guidance_scale: float
) -> Callable[[Tensor, NoiseLevel], Tensor]:
    """``predict`` of a PixArt transformer with classifier-free guidance (Ho and Salimans 2022).

    Args:
        transformer: diffusers' ``PixArtTransformer2DModel``.
        features, mask: text features (2 n, tokens, width) and mask (2 n, tokens), those of no prompt first.
        guidance_scale: diffusers' meaning, 1 is off. Both halves are computed whatever the scale.
    """

    def predict(x: Tensor, level: NoiseLevel) -> Tensor:
        doubled = torch.cat([x, x])
        output = transformer(
            doubled, encoder_hidden_states=features, encoder_attention_mask=mask,
            timestep=torch.full((len(doubled),), level.timestep, device=x.device),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None}, return_dict=False)[0]  # fmt: skip
        without, conditional = output.float().chunk(2)
        return without + guidance_scale * (conditional - without)

    return predict
