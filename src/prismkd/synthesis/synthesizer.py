"""Plan + generator + guidance to shards: ``run_shard`` is idempotent, and its images depend on the plan only."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from prismkd.classifiers import Classifier
from prismkd.config import GuidanceConfig
from prismkd.config.seeds import derive
from prismkd.errors import UserError, warn
from prismkd.generators import TextToImage
from prismkd.generators.lora import Adapter
from prismkd.guidance import Calibration, EnergyGuidance, Guide
from prismkd.guidance.energy import free_energy
from prismkd.memory import in_batches, ran_out_of_memory
from prismkd.progress import Progress, ignore
from prismkd.prompts import Prompt, PromptPlan
from prismkd.shards import PNG, Encoding, Folder, Sample, is_committed, write_shard

Outcome = TypeVar("Outcome")  # what a function makes of one batch of prompts
MAX_TRIES_PER_IMAGE = 3  # draws of an image before it is given up
PATIENCE = 3  # images of a failed batch that fail alone before the whole shard counts as failed
NO_ROOM = (  # for one image
    "lower generator.image_size (height and width of a call), use generator.dtype bfloat16, or set generator.offload"
)
# Guided latents beyond this multiple of the largest unguided ones are out of range. One edit at the default strength
# makes x0 1.3 times as long, and those of a wide band 1.5 times.
LATENT_LIMIT = 2.0


def check_channels(teacher: Classifier, generator: TextToImage) -> None:
    """Gray images may go to a color teacher and the other way round, but no further.

    Raises:
        UserError: the teacher takes images of another kind, such as multispectral ones.
    """
    if teacher.in_channels != generator.num_channels and {teacher.in_channels, generator.num_channels} != {1, 3}:
        raise UserError(
            f"expected a teacher of {generator.num_channels} channels, as the generator draws, got one of "
            f"{teacher.in_channels}; only gray (1) and color (3) are converted into each other"
        )


@dataclass(frozen=True)
class StoredBatch:
    """One batch as it will be stored, rounded to 8 bits.

    Attributes:
        images: (batch, channels, height, width) in [0, 1].
        logits: (batch, classes), the teacher's of these images.
        guidance: what acted on them; None where the images are unguided.
    """

    images: Tensor
    logits: Tensor
    guidance: EnergyGuidance | None

    def is_broken(self, place: int) -> bool:
        """Whether the image or its logits aren't finite."""
        return not (self.images[place].isfinite().all() and self.logits[place].isfinite().all())


@dataclass(frozen=True)
class RawBatch:
    """One batch as the generator gives it.

    Attributes:
        prompts: one per image.
        images: (batch, channels, height, width) in [0, 1].
        guidance: what acted on them; None where they are unguided.
    """

    prompts: list[Prompt]
    images: Tensor
    guidance: EnergyGuidance | None


@dataclass
class Synthesizer:
    """What turns prompts into images: the generator, the teacher, and the guidance (None: unguided).

    Where there are ``guided_styles``, only images of these are guided. With an ``adapter``, the generator draws with it
    on top of its weights. With a ``guide``, that student's doubt is part of the energy. With ``keep_logits`` each
    sample has the teacher's logits, which were computed anyway: the fast mode of distillation then need not ask again.

    How many images are drawn together is the generator's ``batch_size``, which is halved where memory runs out: so what
    one drawing has found out, all later ones of the same generator know.
    """

    generator: TextToImage
    teacher: Classifier
    guidance: GuidanceConfig | None = None
    calibration: Calibration | None = None
    keep_logits: bool = False
    guided_styles: Collection[str] | None = None
    adapter: Adapter | None = None
    guide: Guide | None = None

    @property
    def batch_size(self) -> int:
        """Images that are drawn together."""
        return self.generator.batch_size

    @cached_property
    def teacher_on_device(self) -> Classifier:
        """The teacher where the generator computes, for looking at images; on an accelerator a copy of its own."""
        device = self.generator.device
        return self.teacher if device.type == "cpu" else copy.deepcopy(self.teacher).to(device)

    def labels_of(self, prompts: list[Prompt]) -> Tensor:
        """The prompts' classes (batch,), on the generator's device."""
        return torch.tensor([prompt.label for prompt in prompts], device=self.generator.device)

    def is_guided(self, prompts: list[Prompt]) -> Tensor:
        """Whether each prompt's style is guided (batch,), on the generator's device."""
        styles = self.guided_styles
        is_guided = [styles is None or prompt.style in styles for prompt in prompts]
        return torch.tensor(is_guided, device=self.generator.device)

    def new_guidance(self, labels: Tensor, guided: Tensor | None = None) -> EnergyGuidance | None:
        """What guides one batch of images of these classes (batch,), or those of them that are ``guided`` (batch,).

        None where nothing does.
        """
        if self.guidance is None or self.calibration is None:
            return None
        decode = self.generator.decode
        return EnergyGuidance(self.teacher_on_device, decode, labels, self.calibration, self.guidance, guided,
                              self.guide)  # fmt: skip

    def draw(self, prompts: list[Prompt]) -> tuple[Tensor, EnergyGuidance | None]:
        """Images (batch, channels, height, width) in [0, 1] of one batch of prompts, and the guidance that acted."""
        edit = self.new_guidance(self.labels_of(prompts), self.is_guided(prompts))
        self.generator.use_adapter(self.adapter)
        images = self.generator.sample([p.text for p in prompts], [p.seed for p in prompts], edit)
        return images, edit

    def batches(self, prompts: Sequence[Prompt], progress: Progress = ignore) -> Iterator[RawBatch]:
        """Draw any number of prompts, batch by batch and in their order; a batch that memory can't hold is halved.

        Images are as the generator gives them, not yet rounded to 8 bits.
        """
        for batch, outcome in self._attempts(prompts, self.draw):
            if isinstance(outcome, Exception):
                raise outcome
            yield RawBatch(batch, *outcome)
            progress(len(batch))

    def draw_all(self, prompts: Sequence[Prompt], progress: Progress = ignore) -> Tensor:
        """Images (n, channels, height, width) in [0, 1] of any number of prompts."""
        return torch.cat([batch.images for batch in self.batches(prompts, progress)])

    def samples(self, prompts: Sequence[Prompt], progress: Progress = ignore) -> Iterator[Sample]:
        """Draw prompts in batches and describe each image; one that stays broken is given up with a warning."""
        if self.guidance is not None and self.guidance.diversity_weight > 0:
            prompts = sorted(prompts, key=lambda prompt: prompt.label)  # images of one class repel each other
        warned = False
        for batch, outcome in self._attempts(prompts, self._draw_quantized):
            stored, problem = (None, outcome) if isinstance(outcome, Exception) else (outcome, None)
            warned = warned or _warn_if_out_of_range(stored.guidance if stored else None)
            recovered = False
            count = 0
            for place, prompt in enumerate(batch):
                if stored is not None and not stored.is_broken(place):
                    yield self._sample(prompt, stored, place, tries=1)
                    count += 1
                    continue
                for sample in self._draw_alone(prompt, problem):
                    recovered = True
                    yield sample
                    count += 1
                if problem is not None and not recovered and place + 1 == min(len(batch), PATIENCE):
                    raise problem  # it is not about one image
            progress(count)  # without those that were given up, which nobody keeps; 0 is still a sign of life

    def _attempts(
        self, prompts: Sequence[Prompt], draw: Callable[[list[Prompt]], Outcome]
    ) -> Iterator[tuple[list[Prompt], Outcome | Exception]]:
        """The one path of every drawing: each batch with what ``draw`` made of it, or the error that stopped it.

        Where memory runs out the batch is halved and drawn again; the smaller size is kept for all that follows.
        """

        def attempt(batch: slice) -> Outcome | Exception:
            try:
                return draw(list(prompts[batch]))
            except UserError:
                raise
            except Exception as error:  # a model's own errors have no common type
                if ran_out_of_memory(error):
                    raise
                return error.with_traceback(None)  # whose frames hold the tensors of the failed batch

        for batch, outcome in in_batches(len(prompts), self.generator, attempt, NO_ROOM):
            yield list(prompts[batch]), outcome

    def _draw_quantized(self, prompts: list[Prompt]) -> StoredBatch:
        """Draw one batch as it will be stored, in 8 bits, and let the teacher see that."""
        images, edit = self.draw(prompts)
        images = quantized(images)
        with torch.no_grad():
            # Of the rounded images, which are those that students will see.
            logits = self.teacher_on_device(images.to(self.generator.device), self.labels_of(prompts))
        return StoredBatch(images, logits.cpu(), edit)

    def _draw_alone(self, prompt: Prompt, problem: Exception | None) -> Iterator[Sample]:
        """One image of a batch that failed, then again with seeds derived from its own and the number of the try."""
        reason = "not finite each time"
        for tries in range(1 if problem else 2, MAX_TRIES_PER_IMAGE + 1):
            # The first try keeps the seed: if the batch failed as a whole, this image may be as planned.
            again = replace(prompt, seed=derive(prompt.seed, tries)) if tries > 1 else prompt
            ((_, outcome),) = self._attempts([again], self._draw_quantized)
            if isinstance(outcome, Exception):
                reason = f"{type(outcome).__name__}: {outcome}"
            elif not outcome.is_broken(0):
                yield self._sample(again, outcome, 0, tries)
                return
        warn(f"gave up image {prompt.index} ({prompt.text!r}) after {MAX_TRIES_PER_IMAGE} tries: {reason}")

    def _sample(self, prompt: Prompt, batch: StoredBatch, place: int, tries: int) -> Sample:
        sample = _sample(prompt, batch, place, tries)
        return replace(sample, logits=batch.logits[place].numpy()) if self.keep_logits else sample


def quantized(images: Tensor) -> Tensor:
    """Images in [0, 1] as they are stored, in 8 bits."""
    return images.mul(255).round().div(255)


def _warn_if_out_of_range(edit: EnergyGuidance | None) -> bool:
    """Warn, and say so, where guidance sends latents far beyond the sizes that unguided sampling shows."""
    if edit is None or edit.latent_ratio is None or float(edit.latent_ratio.max()) <= LATENT_LIMIT:
        return False
    warn(
        f"guidance sends latents to {float(edit.latent_ratio.max()):.1f} times the size that unguided sampling shows "
        f"(limit {LATENT_LIMIT}); lower guidance.strength ({edit.config.strength})"
    )
    return True


def _sample(prompt: Prompt, batch: StoredBatch, place: int, tries: int) -> Sample:
    """One image with its provenance."""
    edit, logits = batch.guidance, batch.logits[place]
    metadata: dict[str, Any] = {
        "index": prompt.index,
        "class": prompt.class_name,
        "prompt": prompt.text,
        "sense": prompt.sense,
        "style": prompt.style,
        "seed": prompt.seed,
        "tries": tries,
        "energy_before": None,
        "energy_after": round(float(free_energy(logits[None], edit.config.temperature if edit else 1.0)), 5),
        "teacher_top1": int(logits.argmax()),
        "log_probability": round(float(logits.log_softmax(0)[prompt.label]), 5),
        "guided": 0,
    }
    if edit is not None and edit.energy_before is not None and edit.num_edits is not None:
        before = float(edit.energy_before[place])
        metadata |= {"energy_before": None if math.isnan(before) else round(before, 5),
                     "guided": int(edit.num_edits[place])}  # fmt: skip
    # Exact, as the images were rounded to 8 bits before the teacher saw them.
    pixels = batch.images[place].mul(255).round().byte()
    picture = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    return Sample(prompt.index, picture.numpy(), prompt.label, metadata)


def run_shard(
    folder: Folder,
    shard: int,
    plan: PromptPlan,
    indices: Sequence[int],
    synthesizer: Synthesizer,
    plan_hash: str,
    progress: Progress,
    encoding: Encoding = PNG,
) -> None:
    """Draw and commit one shard; one that is there already stays as it is.

    Raises:
        UserError: not one image of the shard is finite, or the disk is full.
    """
    # Asked again here, although the caller listed what is missing: another worker may have drawn it since.
    if is_committed(folder, shard, plan_hash):
        progress(len(indices))
    else:
        write_shard(folder, shard, _nonempty(synthesizer, plan, indices, progress), plan_hash, encoding)


def _nonempty(
    synthesizer: Synthesizer, plan: PromptPlan, indices: Sequence[int], progress: Progress
) -> Iterator[Sample]:
    """The shard's samples, at least one."""
    count = 0
    for sample in synthesizer.samples([plan[i] for i in indices], progress):
        count += 1
        yield sample
    if count == 0:
        raise UserError(
            f"expected finite images and energies, got none in {len(indices)} prompts after "
            f"{MAX_TRIES_PER_IMAGE} tries each; check the teacher on one image, use generator.dtype "
            "float32, or lower guidance.strength"
        )
