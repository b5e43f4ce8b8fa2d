"""Plan + generator + guidance to shards: ``run_shard`` is idempotent, and its images depend on the plan only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from prismkd.config import GuidanceConfig
from prismkd.energy import free_energy
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration, EnergyGuidance, calibrate
from prismkd.prompts import Prompt, PromptPlan
from prismkd.prompts.classes import ClassName
from prismkd.prompts.plan import image_seed
from prismkd.prompts.senses import Sense, choose_senses, mean_log_probability
from prismkd.prompts.styles import style_bank
from prismkd.shards import Sample, is_committed, write_shard
from prismkd.teachers import Classifier

Progress = Callable[[int], None]  # called with the number of images just finished


@dataclass(frozen=True)
class Synthesizer:
    """What turns prompts into images: the generator, the teacher, and the guidance (None: unguided)."""

    generator: TextToImage
    teacher: Classifier
    guidance: GuidanceConfig | None = None
    calibration: Calibration | None = None

    def draw(self, prompts: list[Prompt]) -> tuple[Tensor, EnergyGuidance | None]:
        """Images (batch, channels, height, width) in [0, 1] of one batch of prompts, and the guidance that acted."""
        edit = None
        if self.guidance is not None and self.calibration is not None:
            labels = torch.tensor([prompt.label for prompt in prompts])
            edit = EnergyGuidance(self.teacher, self.generator.decode, labels, self.calibration, self.guidance)
        images = self.generator.sample([p.text for p in prompts], [p.seed for p in prompts], edit)
        return images, edit

    def draw_all(self, prompts: list[Prompt]) -> Tensor:
        """Images (n, channels, height, width) in [0, 1] of any number of prompts, drawn in batches."""
        size = self.generator.config.batch_size
        return torch.cat([self.draw(prompts[start : start + size])[0] for start in range(0, len(prompts), size)])

    def samples(self, prompts: list[Prompt], progress: Progress) -> Iterator[Sample]:
        """Draw prompts in batches and describe each image."""
        size = self.generator.config.batch_size
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            images, edit = self.draw(batch)
            pixels = images.mul(255).round().byte()
            with torch.no_grad():
                logits = self.teacher(pixels.float().div(255))
            energy, predicted = free_energy(logits).tolist(), logits.argmax(1).tolist()
            before = edit.energy_before if edit is not None else None
            edits = edit.num_edits if edit is not None else None
            for i, prompt in enumerate(batch):
                metadata = {
                    "index": prompt.index,
                    "class": prompt.class_name,
                    "prompt": prompt.text,
                    "style": prompt.style,
                    "seed": prompt.seed,
                    "energy_before": None if before is None else round(float(before[i]), 5),
                    "energy_after": round(energy[i], 5),
                    "teacher_top1": predicted[i],
                    "guided": 0 if edits is None else int(edits[i]),
                }
                picture = pixels[i, 0] if pixels.shape[1] == 1 else pixels[i].permute(1, 2, 0)
                yield Sample(prompt.index, picture.numpy(), prompt.label, metadata)
            progress(len(batch))


def run_shard(
    folder: Path,
    shard: int,
    plan: PromptPlan,
    indices: range,
    synthesizer: Synthesizer,
    plan_hash: str,
    progress: Progress,
) -> float | None:
    """Draw and commit one shard. Returns its seconds, or None when it was there already."""
    if is_committed(folder, shard, plan_hash):
        progress(len(indices))
        return None
    start = time.monotonic()
    write_shard(folder, shard, synthesizer.samples([plan[i] for i in indices], progress), plan_hash)
    return time.monotonic() - start


def judge_senses(
    classes: list[ClassName], synthesizer: Synthesizer, num_probes: int, seed: int, progress: Progress
) -> list[Sense]:
    """Let the teacher choose each class's wording from ``num_probes`` unguided images of every candidate."""
    template = style_bank(1.0)[0].phrase

    def score(texts: list[str], labels: list[int]) -> Tensor:
        prompts = [
            Prompt(probe, label, classes[label].name, template.format(text), "probe", image_seed(seed, probe))
            for text, label in zip(texts, labels, strict=True)
            for probe in range(num_probes)
        ]
        logits = unguided_logits(prompts, synthesizer, progress)
        return mean_log_probability(logits, torch.tensor([p.label for p in prompts]), num_probes)

    return choose_senses(classes, score)


def unguided_logits(prompts: list[Prompt], synthesizer: Synthesizer, progress: Progress) -> Tensor:
    """The teacher's logits (n, classes) on images of ``prompts``, drawn without guidance."""
    plain = Synthesizer(synthesizer.generator, synthesizer.teacher)
    size = plain.generator.config.batch_size
    logits = []
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        with torch.no_grad():
            logits.append(plain.teacher(plain.draw(batch)[0]))
        progress(len(batch))
    return torch.cat(logits)


def run_calibration(
    plan: PromptPlan, synthesizer: Synthesizer, config: GuidanceConfig, progress: Progress
) -> tuple[Calibration, list[float]]:
    """Draw unguided images, measure energies on the way and at the end, and set the guidance's targets."""
    num_classes = synthesizer.teacher.num_classes
    prompts = [plan[index] for index in range(config.num_calibration_images)]
    logits = unguided_logits(prompts, synthesizer, progress)
    energies = free_energy(logits, config.temperature)
    first = calibrate(energies, logits.argmax(1), torch.empty(0), num_classes)
    # The gradients' usual size: a few samples, guided so weakly that nothing moves.
    sizes = []
    for start in range(0, min(48, len(prompts)), synthesizer.generator.config.batch_size):
        batch = prompts[start : start + synthesizer.generator.config.batch_size]
        probe = Synthesizer(synthesizer.generator, synthesizer.teacher, _weakest(config), first)
        edit = probe.draw(batch)[1]
        assert edit is not None
        sizes += edit.gradient_sizes
    gradients = torch.cat(sizes) if sizes else torch.empty(0)
    return calibrate(energies, logits.argmax(1), gradients, num_classes), energies.tolist()


def _weakest(config: GuidanceConfig) -> GuidanceConfig:
    return replace(config, strength=1e-9)
