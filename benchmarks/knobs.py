"""Where the knobs of the generator and of the guidance sit, by what the teacher says; no test image is read.

Usage: python -m benchmarks.knobs [--num-images 120]

Prints, per setting, on plain prompts with the same seeds: the teacher's agreement with the prompted class, the mean
free energy, both again on shifted, blurred and noised views (what vanishes there was an adversarial pattern), the
mean distance that guidance moved the images, and seconds relative to unguided sampling.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from torch import Tensor

from prismkd.augmentation import random_views
from prismkd.config import Config, GuidanceConfig
from prismkd.energy import free_energy
from prismkd.generators import TextToImage, load_generator
from prismkd.guidance import Calibration
from prismkd.prompts import PromptPlan, load_classes, make_plan
from prismkd.prompts.senses import unjudged_senses
from prismkd.synthesis import Synthesizer, run_calibration
from prismkd.teachers import Classifier, load_teacher

SCALES = (2.0, 3.0, 4.5)
STRENGTHS = (0.0, 0.1, 0.2, 0.4)


def draw(synthesizer: Synthesizer, plan: PromptPlan, count: int) -> tuple[Tensor, Tensor, float]:
    """Images, labels and seconds."""
    start, prompts = time.monotonic(), [plan[i] for i in range(count)]
    images = synthesizer.draw_all(prompts)
    labels = torch.tensor([prompt.label for prompt in prompts])
    return images, labels, time.monotonic() - start


@torch.no_grad()
def verdict(teacher: Classifier, images: Tensor, labels: Tensor) -> str:
    """Agreement and energy on the images, and on harsh views of them."""
    words = []
    harsh = random_views(images, noise=0.1, generator=torch.Generator().manual_seed(0))
    for seen in (images, harsh):
        logits = teacher(seen)
        words.append(f"{(logits.argmax(1) == labels).float().mean():.3f} {free_energy(logits).mean():7.2f}")
    return " | views ".join(words)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=120)
    count = parser.parse_args().num_images
    config = Config()
    classes = load_classes("pictograms")
    teacher = load_teacher("pictograms", [item.name for item in classes])
    template = config.prompts.template
    plan = make_plan(unjudged_senses(classes), 77, diversified=False, template=template, id_share=1.0)
    generator = load_generator(config.generator)
    for scale in SCALES:
        generator.config = replace(config.generator, guidance_scale=scale)
        images, labels, seconds = draw(Synthesizer(generator, teacher), plan, count)
        print(f"guidance scale {scale}: {verdict(teacher, images, labels)}, {count / seconds:.1f} images/s", flush=True)
    generator.config = config.generator
    calibration = calibrated(generator, teacher, plan, config.guidance)
    base, base_seconds = None, 0.0
    for strength in STRENGTHS:
        guidance = replace(config.guidance, strength=strength)
        synthesizer = Synthesizer(generator, teacher, guidance, calibration)
        images, labels, seconds = draw(synthesizer, plan, count)
        base, base_seconds = (images, seconds) if base is None else (base, base_seconds)
        moved = (images - base).pow(2).mean().sqrt()
        print(f"strength {strength}: {verdict(teacher, images, labels)}, moved {moved:.3f}, "
              f"{seconds / base_seconds:.2f} x seconds", flush=True)  # fmt: skip


def calibrated(generator: TextToImage, teacher: Classifier, plan: PromptPlan, guidance: GuidanceConfig) -> Calibration:
    """The targets that a run would use."""
    return run_calibration(plan, Synthesizer(generator, teacher), guidance, lambda count: None)[0]


if __name__ == "__main__":
    main()
