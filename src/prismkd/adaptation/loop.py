"""Training an adapter of the generator against the teacher, without data, until it is done or diversity is lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismkd.adaptation.check import Check, check_images
from prismkd.adaptation.lessons import check_prompts, lessons
from prismkd.adaptation.low_rank import LowRank, low_rank, save_adapter
from prismkd.adaptation.objectives import energy_losses, guided_losses
from prismkd.adaptation.state import Adaptation, State
from prismkd.adaptation.trajectory import Step, record, replay
from prismkd.config import AdaptationConfig, GuidanceConfig
from prismkd.config.load import check_adaptation
from prismkd.config.seeds import derive
from prismkd.errors import UserError, warn
from prismkd.guidance import Calibration
from prismkd.guidance.teacher_energy import TeacherEnergy
from prismkd.memory import BatchSize, in_batches, ran_out_of_memory
from prismkd.progress import Progress, ignore
from prismkd.prompts import Prompt, PromptPlan
from prismkd.synthesis.synthesizer import Synthesizer

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_EVERY = 20  # steps
WARM_UP = 10  # steps in which the learning rate rises
PAIRED = 2  # images of a class that come together where they act on each other
NO_ROOM = "lower generator.image_size, use generator.dtype bfloat16, or choose methods without adaptation"


def adapt(
    synthesizer: Synthesizer, plan: PromptPlan, config: AdaptationConfig, folder: Path, *, identity: str = "",
    progress: Progress = ignore,
) -> Adaptation:  # fmt: skip
    """Train an adapter of the synthesizer's generator, and write it into ``folder``.

    Args:
        synthesizer: guided: its guidance says which predictions the adapter learns, or which energy it lowers, and in
            which band of noise; its ``guided_styles`` in which styles.
        plan: the prompts to learn from, those of the methods that will draw with the adapter.
        config: the settings.
        folder: gets the adapter's files, and a checkpoint until they are complete.
        identity: of everything else that decides about the adapter; a checkpoint with another one is of no use.
        progress: called with the number of steps just finished.

    Returns:
        The record of the training.

    Raises:
        UserError: settings that don't fit (``check_adaptation``), no step in the guidance's band, a loss that isn't
            finite, no memory for one image, or a denoiser without a layer to adapt.
    """
    generator = synthesizer.generator
    assert synthesizer.guidance is not None and synthesizer.calibration is not None
    check_adaptation(generator.config, synthesizer.guidance, config)
    generator.use_adapter(None)
    with low_rank(generator.pipeline, config.rank, derive(plan.seed, "adapter")) as matrices:
        training = _Training(synthesizer, synthesizer.guidance, synthesizer.calibration, plan, config, matrices)
        state = training.state
        progress(state.resume(folder / CHECKPOINT, identity, config.num_steps))
        training.run(folder / CHECKPOINT, identity, progress)
    save_adapter(generator.pipeline, state.best, config.rank, folder)
    return state.outcome()


class _Training:
    """One training: what it needs, what changes from step to step, and a step."""

    def __init__(
        self, synthesizer: Synthesizer, guidance: GuidanceConfig, calibration: Calibration, plan: PromptPlan,
        config: AdaptationConfig, matrices: LowRank,
    ) -> None:  # fmt: skip
        self.synthesizer, self.generator = synthesizer, synthesizer.generator
        self.guidance, self.calibration, self.config, self.plan = guidance, calibration, config, plan
        self.matrices, self.parameters = matrices, list(matrices.parameters.values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=0.0)
        # Its own, which is halved where memory runs out: gradients need more room than drawing
        self.sizes = BatchSize(min(self.generator.batch_size, config.batch_size))
        energy = replace(guidance, diversity_weight=config.diversity_weight)
        self.energy = TeacherEnergy(synthesizer.teacher_on_device, calibration, energy)
        self.checked = check_prompts(plan, config.num_check_images, synthesizer.guided_styles)
        self.state = State(matrices, self.optimizer)

    # --- all steps ---------------------------------------------------------------------------------------------------

    def run(self, checkpoint: Path, identity: str, progress: Progress) -> None:
        """All steps that are left, and the checks between them."""
        config = self.config
        coupled = config.objective == "energy" and config.diversity_weight > 0
        batches = lessons(self.plan, config.batch_size, self.synthesizer.guided_styles, PAIRED if coupled else 1)
        if not self.state.checks:
            self._check()
        for prompts in islice(batches, self.state.step, config.num_steps):
            if self.state.stopped:
                break
            self._learn(prompts)
            self.state.step += 1
            progress(1)
            is_last = self.state.step == config.num_steps
            if self.state.step % config.check_every == 0 or is_last:
                self._check()
            if self.state.step % CHECKPOINT_EVERY == 0 or is_last or self.state.stopped:
                self.state.save(checkpoint, identity)

    def _check(self) -> None:
        """Draw with the adapter as it is now, and keep it where it is the best so far."""
        state = self.state
        check = self._images_by(replace(self.synthesizer, guidance=None))
        state.checks.append(check)
        if state.step == 0:
            state.guided = self._images_by(self.synthesizer)
            return
        # The known failure of descending a classifier's energy in the weights is collapse: every image of a class
        # becomes the one that the classifier likes best.
        least = (1 - self.config.max_diversity_loss) * state.checks[0].diversity
        state.stopped = check.diversity < least
        others = [other.energy for other in state.checks[:-1] if other.diversity >= least]
        if not state.stopped and check.energy < min(others):
            state.best, state.chosen_step = self.matrices.state(), state.step

    def _images_by(self, synthesizer: Synthesizer) -> Check:
        return check_images(synthesizer, self.checked, self.guidance, self.calibration, self.state.step)

    # --- one step ----------------------------------------------------------------------------------------------------

    def _learn(self, prompts: list[Prompt]) -> None:
        """One step of the optimizer."""
        total, state = 0.0, self.state
        gradients = [torch.zeros_like(parameter) for parameter in self.parameters]

        def part(places: slice) -> tuple[float, list[Tensor]]:
            return self._with_room(lambda: self._gradients(prompts[places], len(prompts)))

        for _, (loss, found) in in_batches(len(prompts), self.sizes, part, NO_ROOM):
            total += loss
            torch._foreach_add_(gradients, found)
        if not math.isfinite(total):
            raise UserError(
                f"expected a finite loss of the adapter, got {total} at step {state.step}; lower "
                "adaptation.learning_rate, or use generator.dtype float32"
            )
        state.losses.append(total)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _rate(self) -> float:
        """A short rise, then half a cosine to zero."""
        step, peak = self.state.step, self.config.learning_rate
        return peak * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / self.config.num_steps))

    def _gradients(self, prompts: list[Prompt], batch_size: int) -> tuple[float, list[Tensor]]:
        """The loss of some images of a batch, as their share of its mean, and its gradients."""
        labels, guided = self.synthesizer.labels_of(prompts), self.synthesizer.is_guided(prompts)
        by_guidance = self.config.objective == "guided"
        guidance = self.guidance if by_guidance else replace(self.guidance, strength=0.0)
        edit = replace(self.synthesizer, guidance=guidance).new_guidance(labels, guided)
        assert edit is not None
        texts, seeds = [prompt.text for prompt in prompts], [derive(prompt.seed, "adapter") for prompt in prompts]
        with torch.no_grad(), self.matrices.off():
            trajectory = record(self.generator, texts, seeds, edit)
        band = self.guidance
        places = trajectory.in_band(band)
        if not places:
            raise UserError(
                f"expected a denoising step with log(alpha / sigma) in [{band.log_snr_min}, {band.log_snr_max}], got "
                "none; widen guidance.log_snr_min and log_snr_max or raise num_inference_steps"
            )
        total, gradients = 0.0, [torch.zeros_like(parameter) for parameter in self.parameters]

        def learn(step: Step, x0: Tensor) -> None:
            nonlocal total
            loss = self._losses(step, x0, labels, guided).sum() / (batch_size * len(places))
            total += float(loss.detach())
            torch._foreach_add_(gradients, torch.autograd.grad(loss, self.parameters))

        replay(self.generator, trajectory, places, learn)
        return total, gradients

    def _losses(self, step: Step, x0: Tensor, labels: Tensor, guided: Tensor) -> Tensor:
        """The objective of each image (batch,)."""
        assert step.x0 is not None and step.mapping is not None
        if self.config.objective == "guided":
            return guided_losses(x0, step.x0, step.delta)
        seed, decode = derive(self.plan.seed, "view", self.state.step), self.generator.decode
        weight = self.config.proximity_weight
        return energy_losses(x0, step.x0, labels, guided, self.energy, decode, weight, seed)

    def _with_room(self, do: Callable[[], Any]) -> Any:
        """What ``do`` gives; where memory runs out, once more with activations computed twice instead of kept."""
        network: Any = self.matrices.network
        try:
            return do()
        except Exception as error:  # frameworks have no common type for it
            can = getattr(network, "_supports_gradient_checkpointing", False) and not network.is_gradient_checkpointing
            if not ran_out_of_memory(error) or not can:
                raise
        warn("memory ran out; going on with checkpointed gradients, which take a third more time")
        network.enable_gradient_checkpointing()
        return do()
