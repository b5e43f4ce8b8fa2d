"""EDA around a pipeline of the user's own: the guidance of a run, for whoever has a pipeline and a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.classifiers import Preprocessing, as_classifier
from prismkd.config import Config, GuidanceConfig
from prismkd.config.load import check_config
from prismkd.config.seeds import check_seed, derive
from prismkd.errors import UserError, warn
from prismkd.generators.configured import ConfiguredPipeline
from prismkd.generators.text_to_image import check_band
from prismkd.guidance import Calibration, EnergyGuidance, X0Map
from prismkd.guidance.energy import free_energy
from prismkd.memory import in_batches
from prismkd.progress import Progress, ignore
from prismkd.prompts import Prompt
from prismkd.prompts.plan import PROBE_SEED
from prismkd.synthesis.calibrate import measure_calibration
from prismkd.synthesis.synthesizer import NO_ROOM, Synthesizer, check_channels

UNUSED = Calibration([], 0.0, 0.0, [])  # of guidance of strength 0, which doesn't look at it

Labels = Sequence[int] | Tensor


@dataclass(frozen=True)
class Guided:
    """What guidance did to each of n images.

    Attributes:
        energy_before: (n,) the teacher's free energy of the x0 prediction where the band of guided steps began; NaN at
            strength 0. An early x0 prediction is a blur: to see what guidance changed, compare ``energy_after`` with
            that of the same prompts and seeds at strength 0.
        energy_after: (n,) the free energy of the finished image; None in a ``guiding`` block, where EDA doesn't see it.
        num_edits: (n,) steps at which the image was edited; 0 where it was in-distribution all along.
        num_band_steps: steps that fell into the band.
        latent_ratio: (n,) the largest root mean square of an edited x0 prediction, relative to the largest of unguided
            ones; far above 1 (1.5 or more) the strength is too high. NaN where nothing was looked at.
    """

    energy_before: Tensor
    energy_after: Tensor | None
    num_edits: Tensor
    num_band_steps: int
    latent_ratio: Tensor

    @classmethod
    def by(cls, edit: EnergyGuidance, energy_after: Tensor | None = None) -> Guided:
        """What a finished guidance says of itself."""
        unknown = torch.full((len(edit.labels),), torch.nan)
        return cls(
            energy_before=unknown if edit.energy_before is None else edit.energy_before.cpu(),
            energy_after=energy_after,
            num_edits=torch.zeros_like(edit.labels).cpu() if edit.num_edits is None else edit.num_edits.cpu(),
            num_band_steps=edit.num_band_steps,
            latent_ratio=unknown if edit.latent_ratio is None else edit.latent_ratio.cpu(),
        )


class EDA:
    """Energy-guided Distribution Alignment on a diffusers pipeline of yours.

    While the pipeline draws, its x0 predictions are moved to where the teacher's energy of them is low, so that the
    images lie in the distribution that the teacher was trained on (He et al. 2025, PRISM: the idea is the paper's, the
    energy and where it acts are our design). No gradient passes through the denoiser.

    The pipeline stays as you configured it: nothing of it is moved, cast or exchanged, and its scheduler is itself
    again after each call. Two ways to use it:

        eda = prismkd.EDA(pipe, teacher)
        images = eda(["a photo of a crane"], labels=[134], seeds=[0])

        eda.calibrate(prompts, labels)
        with eda.guiding(labels=[134]):
            images = pipe("a photo of a crane").images

    Guidance stops where an image's energy is that of usual unguided images of its class. What is usual is measured
    once, without data, by ``calibrate``; at the first call it is measured with the prompts at hand.

    Args:
        pipe: a text-to-image pipeline of diffusers, as ``DiffusionPipeline.from_pretrained`` gives it: Stable Diffusion
            1, 2, XL and 3, Flux, PixArt, Sana, DiT, LCM, with any scheduler that predicts x0 linearly and calls the
            network once per step. Choose its device, precision and offloading first.
        teacher: a ``Classifier`` (such as ``prismkd.load_teacher`` gives), or any module in evaluation mode of images
            (batch, channels, height, width) in [0, 1] to logits (batch, num_classes). Where it has to be moved or its
            weights want gradients, guidance works on a copy; the module itself stays as it is.
        guidance: strength, band, views and weights; None: the defaults.
        preprocessing: from images in [0, 1] to the input of a teacher that isn't a ``Classifier``, such as
            ``prismkd.Preprocessing(3, resize=256, crop=(224, 224), mean=..., std=...)``; None: it takes the images as
            they are. Most networks of timm and torchvision want theirs.
        decoder: what gradients pass through: the folder or hub name of an ``AutoencoderTiny``, such as
            ``madebyollin/taesd`` for Stable Diffusion 1 and 2, or a decoder that you loaded. None: the ``tiny_vae``
            beside the pipeline's parts, if its folder has one, else the pipeline's own vae. ``none``: always that vae,
            which is exact and dear: on Stable Diffusion 1.5 at 512 pixels guided sampling takes 2.2 times the FLOPs of
            unguided, with a tiny decoder 1.1 times.
        calibration: of an earlier EDA with this pipeline and teacher; it is plain data (``dataclasses.asdict``).
        batch_size: images that are drawn together; halved, and kept so, where memory runs out.

    Attributes:
        calibration: the targets; None before they are measured.
        batch_size: as above.
        last: what guidance did to the images of the last call, or to the last batch of the last block.

    Raises:
        UserError: a pipeline without a vae, a decoder of other latents, a teacher that doesn't answer with logits, a
            calibration of another teacher, or settings out of range.
    """

    def __init__(
        self,
        pipe: Any,
        teacher: nn.Module,
        *,
        guidance: GuidanceConfig | None = None,
        preprocessing: Preprocessing | None = None,
        decoder: str | Path | nn.Module | None = None,
        calibration: Calibration | None = None,
        batch_size: int = 8,
    ) -> None:
        self.guidance = guidance or GuidanceConfig()
        check_config(replace(Config(), guidance=self.guidance))
        self.calibration = calibration
        self.last: Guided | None = None
        self._generator = ConfiguredPipeline(pipe, decoder, batch_size)
        side = self._generator.image_size
        self._teacher = as_classifier(teacher, (self._generator.num_channels, side, side), preprocessing)
        check_channels(self._teacher, self._generator)
        if calibration is not None and len(calibration.energy_target) != self._teacher.num_classes:
            raise UserError(
                f"expected a calibration of the teacher's {self._teacher.num_classes} classes, got one of "
                f"{len(calibration.energy_target)}; call eda.calibrate(prompts, labels)"
            )
        self._synthesizer = Synthesizer(self._generator, self._teacher, self.guidance)
        self._device = self._generator.device

    @property
    def batch_size(self) -> int:
        """Images that are drawn together."""
        return self._generator.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._generator.batch_size = size

    def __call__(self, prompts: Sequence[str], labels: Labels, seeds: Sequence[int], **arguments: Any) -> Tensor:
        """Draw one guided image per prompt, label and seed; an image depends on its own prompt, label and seed only.

        Unless ``calibrate`` was called before, the first call measures first what is usual, on
        ``guidance.num_calibration_images`` unguided images of these prompts: with few prompts a rough measure, since
        classes that aren't among them get the median of those that are.

        Args:
            prompts: n texts, any number; for DiT the class names that it was trained with.
            labels: (n,) the teacher's class that each prompt asks for.
            seeds: (n,) of each image's noise, from 0 to 2^63 - 1.
            arguments: of the pipeline's call, for all images alike: ``num_inference_steps``, ``guidance_scale``,
                ``height``, ``width``, ``negative_prompt``, ...; its own defaults where left out.

        Returns:
            Images (n, channels, height, width), float32 in [0, 1], on the CPU. An image that the pipeline's safety
            checker blackened is not a number throughout, so that it can't slip into a training set.

        Raises:
            UserError: labels that aren't the teacher's, a seed out of range, an argument that the pipeline doesn't
                take, a scheduler that can't be guided, no step in the band, or no memory for one image.
        """
        texts, targets = self._check(prompts, labels)
        if len(seeds) != len(texts):
            raise UserError(f"expected a seed for each of {len(texts)} prompts, got {len(seeds)}; give one per image")
        own_seeds = [check_seed(seed, "each of seeds") for seed in seeds]
        if self.calibration is None and self.guidance.strength > 0:
            warn(
                f"calibrating on {self.guidance.num_calibration_images} unguided images of {len(set(texts))} different "
                "prompts; eda.calibrate(prompts, labels) with prompts of all classes is better"
            )
            self.calibrate(texts, targets, **arguments)
        self._generator.use_arguments(arguments)
        wanted = [_prompt(*row) for row in zip(texts, targets.tolist(), own_seeds, strict=True)]
        images, records = list[Tensor](), list[Guided]()
        for batch in self._drawing.batches(wanted):
            assert batch.guidance is not None
            images.append(batch.images)
            records.append(Guided.by(batch.guidance, self.energies(batch.images)))
        self.last = _joined(records)
        _warn_of_blackened(torch.cat(images))
        return torch.cat(images)

    def calibrate(
        self, prompts: Sequence[str], labels: Labels, *, progress: Progress = ignore, **arguments: Any
    ) -> Calibration:
        """Measure what is usual, on ``guidance.num_calibration_images`` unguided images: where guidance is to stop.

        A class's target is the median free energy of the images that the teacher takes for it, drawn towards the median
        of all where there are few (our design). Give prompts of many classes, best of all of them, as you will draw
        them: a class without images gets the median of all. Prompts are repeated with other seeds, or left out evenly,
        until the number is reached. A few images more are drawn to see the usual size of gradients.

        Args:
            prompts: n texts, any number.
            labels: (n,) the teacher's class that each prompt asks for.
            progress: called with the number of images just drawn.
            arguments: of the pipeline's call, as the images will be drawn.

        Returns:
            The calibration, which is kept as ``calibration`` too.

        Raises:
            UserError: as for a call; or energies that aren't finite.
        """
        texts, targets = self._check(prompts, labels)
        self._generator.use_arguments(arguments)
        count, given = self.guidance.num_calibration_images, len(texts)
        # Repeated in turn, or thinned out evenly, so that the prompts at the end count as those at the beginning.
        places = [turn % given if given <= count else turn * given // count for turn in range(count)]
        # Seeds of their own: the images that are drawn later should not be those that set the targets.
        wanted = [_prompt(texts[at], int(targets[at]), derive(PROBE_SEED, turn)) for turn, at in enumerate(places)]
        self.calibration, _ = measure_calibration(wanted, self._drawing, self.guidance, progress)
        return self.calibration

    @contextmanager
    def guiding(self, labels: Labels) -> Iterator[list[Guided]]:
        """While active, whatever your pipeline draws is guided.

        For calls that ``eda(...)`` doesn't make: with your own generators or prompt embeddings, of an image-to-image
        pipeline with the same scheduler (but Flux's), or a loop of yours over the scheduler's steps. The block may hold
        several calls, each with one image per label.

        Args:
            labels: (n,) the teacher's class of each image of a batch, prompt after prompt as the pipeline orders them.

        Yields:
            A list, filled when the block ends: what guidance did to each batch. ``last`` is the last of them.

        Raises:
            UserError: before the block, where the calibration is missing, since the prompts can't be seen from here; in
                it, where a batch isn't one of n images or the scheduler can't be guided; after it, where the pipeline
                wasn't called or none of its steps fell into the band.
        """
        targets = self._check_labels(labels)
        if self.calibration is None and self.guidance.strength > 0:
            raise UserError(
                "expected a calibration before a guided block, which doesn't see the prompts, got none; call "
                "eda.calibrate(prompts, labels) first, or give EDA(..., calibration=...)"
            )
        batches, records = _Batches(self._drawing, targets.to(self._generator.device)), list[Guided]()
        with self._generator.guided(batches, len(targets)):
            yield records
        if not batches.guidances:
            raise UserError(
                f"expected {type(self._generator.pipeline).__name__} to draw inside the block, got no step of its "
                "scheduler; nothing was guided: call the pipeline that EDA was given"
            )
        # Only now: that no step fell into the band can be said when the schedule is over.
        for edit in batches.guidances:
            check_band(edit)
            records.append(Guided.by(edit))
        self.last = records[-1]

    @torch.no_grad()
    def energies(self, images: Tensor) -> Tensor:
        """The teacher's free energies ``-T logsumexp(f(x) / T)`` (n,) of images (n, channels, height, width) in [0, 1].

        Lower is more in-distribution (Liu et al. 2020, Energy-based Out-of-distribution Detection, eq. 4). Energies of
        two teachers can't be compared.
        """
        teacher, device = self._drawing.teacher_on_device, self._generator.device
        batches = in_batches(
            len(images), self._generator, lambda batch: teacher(images[batch].to(device)).cpu(), NO_ROOM
        )
        logits = torch.cat([outcome for _, outcome in batches])
        return free_energy(logits, self.guidance.temperature)

    @property
    def _drawing(self) -> Synthesizer:
        """What draws, with the teacher where the pipeline computes, which its owner may have moved."""
        # A synthesizer keeps the teacher on one device; the owner of the pipeline may have moved it since.
        if self._device != self._generator.device:
            self._synthesizer = Synthesizer(self._generator, self._teacher, self.guidance)
            self._device = self._generator.device
        self._synthesizer.calibration = self.calibration or UNUSED
        return self._synthesizer

    def _check(self, prompts: Sequence[str], labels: Labels) -> tuple[list[str], Tensor]:
        # A string is a sequence too, of prompts of one letter.
        if isinstance(prompts, str) or not prompts:
            raise UserError(f'expected a list of prompts, got {prompts!r}; write ["a photo of a crane"]')
        targets = self._check_labels(labels)
        if len(targets) != len(prompts):
            raise UserError(f"expected a label for each of {len(prompts)} prompts, got {len(targets)}; give one each")
        return list(prompts), targets

    def _check_labels(self, labels: Labels) -> Tensor:
        targets, num_classes = torch.as_tensor(labels), self._teacher.num_classes
        if targets.ndim != 1 or targets.is_floating_point() or len(targets) == 0:
            raise UserError(
                f"expected labels (n,) as integers, got {targets.dtype} {tuple(targets.shape)}; give a list"
            )
        wrong = targets[(targets < 0) | (targets >= num_classes)]
        if len(wrong):
            raise UserError(
                f"expected labels from 0 to {num_classes - 1}, the teacher's classes, got {int(wrong[0])}; check them"
            )
        return targets.long()


class _Batches:
    """The edit while a block is active: every batch that is drawn gets a guidance of its own."""

    def __init__(self, drawing: Synthesizer, labels: Tensor) -> None:
        self.guidances = list[EnergyGuidance]()
        self._drawing, self._labels = drawing, labels
        self._previous: X0Map | None = None

    def __call__(self, x0: Tensor, mapping: X0Map) -> Tensor | None:
        previous, self._previous = self._previous, mapping
        # Along a schedule the noise only falls: where it rises, or after a last step, another batch has begun.
        if previous is None or previous.is_last or mapping.log_snr < previous.log_snr:
            guidance = self._drawing.new_guidance(self._labels)
            assert guidance is not None
            self.guidances.append(guidance)
        return self.guidances[-1](x0, mapping)


def _prompt(text: str, label: int, seed: int) -> Prompt:
    """A prompt that is none of a plan's."""
    return Prompt(0, label, "", text, "", seed)


def _joined(records: Sequence[Guided]) -> Guided:
    """One record of several batches."""
    return Guided(
        energy_before=torch.cat([record.energy_before for record in records]),
        energy_after=torch.cat([record.energy_after for record in records if record.energy_after is not None]),
        num_edits=torch.cat([record.num_edits for record in records]),
        # One schedule for all batches of a call, so one number of steps.
        num_band_steps=records[0].num_band_steps,
        latent_ratio=torch.cat([record.latent_ratio for record in records]),
    )


def _warn_of_blackened(images: Tensor) -> None:
    count = int(images.isnan().flatten(1).any(dim=1).sum())
    if count:
        warn(f"{count} of {len(images)} images are not a number: blackened by the safety checker, or out of range")
