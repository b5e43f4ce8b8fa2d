"""DiffDFKD: a diffusion model whose latents move down a loss at every step, through the denoiser.

Qi et al. 2025, "Data-free Knowledge Distillation with Diffusion Models". At every step but the last the clean
prediction is decoded, and ``x_t -= d/dx_t (a_bn R_bn + a_oh CE + a_adv L_adv)``, the gradient passing decoder and
denoiser; then the denoiser looks at the moved latents again. Each image is a batch of its own, so batch-norm statistics
are those of one image. Settings are the authors' for DomainNet. Adapted: DDIM without noise in place of DDPM, the
generator's own steps and guidance scale, and plain prompts of prismkd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.cost.through_denoiser import (
    NoiseLevel,
    encode_prompts,
    flow_levels_of,
    initial_noise,
    output_to_x0,
    pixart_predictor,
)
from benchmarks.rivals.pieces import BatchNormStatistics, adversarial_losses
from benchmarks.rivals.problem import Batch, OwnStudent, Problem, Situation
from prismkd.classifiers import Classifier
from prismkd.generators import TextToImage
from prismkd.prompts import PromptPlan


@dataclass
class DiffDfkd:
    """A guided generator.

    Attributes:
        generator: a flow-matching PixArt pipeline, such as the embedded one.
        plan: of plain prompts.
        step: times the gradient.
    """

    generator: TextToImage
    plan: PromptPlan
    batch_size: int = 32
    step: float = 1.0
    batch_norm_weight: float = 0.1
    label_weight: float = 1.0
    adversarial_weight: float = 1.0
    name: str = "DiffDFKD"
    own_student: OwnStudent | None = field(
        default_factory=lambda: OwnStudent(30.0, learning_rate=0.1, warm_up=0.1, weight_decay=5e-4)
    )
    kept_rounds: int | None = None

    def rounds(self, problem: Problem, situation: Callable[[], Situation]) -> Iterator[Batch]:
        """See ``Rival``."""
        generator = self.generator
        generator.pipeline.transformer.requires_grad_(False)
        levels = flow_levels_of(generator.pipeline, generator.config.num_inference_steps)
        with BatchNormStatistics(problem.teacher) as statistics:
            for start in count(0, self.batch_size):
                prompts = [self.plan[index] for index in range(start, start + self.batch_size)]
                labels = torch.tensor([prompt.label for prompt in prompts])
                features = encode_prompts(generator, [prompt.text for prompt in prompts])
                predict = pixart_predictor(generator.pipeline.transformer, *features, generator.config.guidance_scale)
                losses = partial(self._losses, problem.teacher, statistics, labels, situation().student)
                x = initial_noise(generator, [prompt.seed for prompt in prompts])
                x0 = descend(predict, x, levels, losses, self.step)
                with torch.no_grad():
                    yield generator.decode_fully(x0), labels

    def _losses(
        self, teacher: Classifier, statistics: BatchNormStatistics, labels: Tensor, student: nn.Module | None,
        x0: Tensor,
    ) -> Tensor:  # fmt: skip
        images = self.generator.decode(x0)
        logits = teacher(images)
        losses = self.label_weight * F.cross_entropy(logits, labels, reduction="none")
        losses = losses + self.batch_norm_weight * statistics.losses_of_images()
        if student is not None:
            losses = losses + self.adversarial_weight * adversarial_losses(student(images), logits)
        return losses


def descend(
    predict: Callable[[Tensor, NoiseLevel], Tensor], x: Tensor, levels: list[NoiseLevel],
    losses: Callable[[Tensor], Tensor], step: float,
) -> Tensor:  # fmt: skip
    """Denoise x (batch, ...), moving x_t down the gradient of ``losses(x0)`` (batch,) before every step but the last.

    Args:
        predict: x_t and level to the network's output, flow matching's velocity; differentiable.
        x: distributed like the first level.
        levels: falling noise, the last without any.
        losses: of the clean prediction.
        step: times the gradient.

    Returns:
        x0 (batch, ...).
    """
    for level, following in pairwise(levels):
        if following is not levels[-1]:
            with torch.enable_grad():
                x = x.detach().clone().requires_grad_(True)
                x0 = output_to_x0(predict(x, level), x, level, "flow_prediction")
                (gradient,) = torch.autograd.grad(losses(x0).sum(), x)
            x = x.detach() - step * torch.nan_to_num(gradient)
        with torch.no_grad():
            x0 = output_to_x0(predict(x, level), x, level, "flow_prediction")
        noise = (x - level.alpha * x0) / level.sigma
        x = following.alpha * x0 + following.sigma * noise
    return x
