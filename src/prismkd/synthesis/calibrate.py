"""Where the teacher's energies lie: the targets of guidance, from unguided images and without data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prismkd.classifiers import Classifier
from prismkd.classifiers.classifier import NO_ROOM
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance import Calibration, calibration_from
from prismkd.guidance.energy import free_energy
from prismkd.memory import HasBatchSize, in_batches
from prismkd.progress import Progress
from prismkd.prompts import Prompt, PromptPlan
from prismkd.synthesis.synthesizer import Synthesizer

NUM_GRADIENT_PROBES = 48


@torch.no_grad()
def _logits(teacher: Classifier, images: Tensor, labels: Tensor, sizes: HasBatchSize) -> Tensor:
    """The teacher's logits (n, classes) of images (n, channels, height, width) that were drawn for ``labels`` (n,)."""
    batches = in_batches(len(images), sizes, lambda batch: teacher(images[batch], labels[batch]), NO_ROOM)
    return torch.cat([logits for _, logits in batches])


def measure_calibration(
    plan: PromptPlan | Sequence[Prompt], synthesizer: Synthesizer, config: GuidanceConfig, progress: Progress
) -> tuple[Calibration, list[float]]:
    """Draw unguided images, measure energies on the way and at the end, and set the guidance's targets.

    Returns:
        The calibration, and the free energy of every image.

    Raises:
        UserError: the teacher's energies of unguided images aren't finite.
    """
    teacher = synthesizer.teacher
    prompts = [plan[index] for index in range(config.num_calibration_images)]
    # The given synthesizer may be guided already, and a target is what images are like before that.
    unguided = Synthesizer(synthesizer.generator, synthesizer.teacher)
    images = unguided.draw_all(prompts, progress)
    logits = _logits(teacher, images, torch.tensor([prompt.label for prompt in prompts]), synthesizer.generator)
    energies = free_energy(logits, config.temperature)
    if not energies.isfinite().all():
        raise UserError(
            f"expected finite energies of unguided images, got {int((~energies.isfinite()).sum())} of {len(energies)} "
            "that aren't; check the teacher's weights, and use generator.dtype float32"
        )
    # In two passes, since gradients of the hinge can only be measured once it has its targets.
    first = calibration_from(energies, logits.argmax(1), torch.empty(0), teacher.num_classes)
    gradients, latents = _probe_gradients(prompts, synthesizer, config, first)
    found = calibration_from(energies, logits.argmax(1), gradients, teacher.num_classes)
    latent_rms = float(latents.max()) if len(latents) else 0.0
    return replace(found, latent_rms=latent_rms), energies.tolist()


def _probe_gradients(
    prompts: list[Prompt], synthesizer: Synthesizer, config: GuidanceConfig, calibration: Calibration
) -> tuple[Tensor, Tensor]:
    """The usual sizes of gradients and latents: a few samples, guided so weakly that nothing moves."""
    # Not 0, at which guidance would look at nothing.
    weakest = replace(config, strength=1e-9)
    probe = Synthesizer(synthesizer.generator, synthesizer.teacher, weakest, calibration)
    gradients, latents = [torch.empty(0)], [torch.empty(0)]
    for batch in probe.batches(prompts[:NUM_GRADIENT_PROBES]):
        assert batch.guidance is not None
        gradients += [sizes.cpu() for sizes in batch.guidance.gradient_sizes]
        latents += [sizes.cpu() for sizes in batch.guidance.latent_sizes]
    return torch.cat(gradients), torch.cat(latents)
