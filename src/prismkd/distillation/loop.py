"""The training loop: one device, or several processes under `accelerate launch`."""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from prismkd.classifiers import Classifier
from prismkd.classifiers.classifier import NO_ROOM
from prismkd.classifiers.precision import fast_matmul
from prismkd.config import DistillationConfig
from prismkd.config.seeds import derive
from prismkd.distillation.ahead import on_device
from prismkd.distillation.augmentation import mix, rand_augment
from prismkd.distillation.log import TrainingLog, curve_of, look_back, quarter_means
from prismkd.distillation.losses import agreement_loss, distillation_loss, feature_loss, mixed_logits
from prismkd.distillation.state import State, StudentWithProjection, memory_format_of, teacher_width
from prismkd.distillation.stored_logits import StoredLogits, store
from prismkd.distillation.training_set import TrainingSet, to_bytes, to_float
from prismkd.distillation.world import World
from prismkd.errors import UserError
from prismkd.foreign.checkpoint import DamagedCheckpointError, set_aside
from prismkd.memory import BatchSize, in_batches, ran_out_of_memory
from prismkd.progress import Progress, ignore

CHECKPOINT_EVERY = 250
NUM_ROWS = 50  # of the log of a training, or more
OnRow = Callable[[dict[str, float]], None]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def unseen(row: dict[str, float]) -> None:
    """What is called with a row of the log where nobody looks."""


def train(
    student: nn.Module,
    teacher: Classifier | None,
    images: TrainingSet | Tensor,
    config: DistillationConfig,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress = ignore,
    on_row: OnRow = unseen,
) -> TrainingLog:
    """Train ``student`` in place; teacher and student see the same view (Beyer et al. 2022).

    Every step draws from its own generator, so on a CPU a resumed run equals the uninterrupted one bit for bit.
    What they see of an image is decided by ``World``: by the recipe's size and augmentation, and the teacher's input.
    Several processes share each batch; images, views and mixtures are those of one process. Batch norm takes its
    statistics from each process's own part, and the first one's running statistics count.

    Args:
        student: any network of images (batch, channels, height, width) in [0, 1]; see ``World.trained_form``.
        teacher: the classifier to imitate; None where the recipe only uses labels.
        images: a training set, or images alone, (n, channels, height, width) as uint8 or as float in [0, 1]. What is
            larger or smaller than the student's world has it is resized at every step.
        config: recipe.
        seed: of batches and views.
        checkpoint: where progress is kept until the training is complete; only the first process writes it. One that
            is damaged, or of another training, is renamed, and the training begins anew. None: a training that is
            interrupted begins anew.
        progress: called with the number of steps just finished.
        on_row: called with each row of the log: step, loss and learning rate.

    Returns:
        The log, with its warnings.

    Raises:
        UserError: no images, a recipe that doesn't fit, a loss that isn't finite, or no memory for a step.
    """
    data = images if isinstance(images, TrainingSet) else TrainingSet(images)
    with _memory_of(config):
        # "no": else Accelerate takes a precision from the environment. The recipe's own acts in ``_precision``.
        training = _Training(student, teacher, data, config, seed, Accelerator(mixed_precision="no"))
        if checkpoint is not None:
            training.resume(checkpoint, progress)
        training.run(checkpoint, progress, on_row)
        return training.finish()


@contextmanager
def _memory_of(config: DistillationConfig) -> Iterator[None]:
    """A batch of a training is part of its recipe, which nobody but the user may change: it isn't halved."""
    try:
        yield
    except Exception as error:  # frameworks have no common type for it
        if not ran_out_of_memory(error):
            raise
        raise UserError(
            f"expected memory for a step on {config.batch_size} images, got none; lower distillation.batch_size, or "
            "use distillation.mixed_precision bf16; then give the same command again"
        ) from None


class _Training:
    """One training: its models and data on the device, and a step."""

    def __init__(
        self, student: nn.Module, teacher: Classifier | None, data: TrainingSet, config: DistillationConfig, seed: int,
        accelerator: Accelerator,
    ) -> None:  # fmt: skip
        world, device = accelerator.num_processes, accelerator.device
        _check_recipe(config, teacher, data, world, device)
        self.data, self.config, self.seed = data, config, seed
        self.accelerator, self.device = accelerator, device
        self.looks = BatchSize(sys.maxsize)  # for the teacher, at most: all that come together, until memory runs out
        self.original_device = next(student.parameters()).device
        self.memory_format = memory_format_of(student, device)
        self.world = World.of(config, teacher)
        self.teacher: Classifier | None = None
        if teacher is not None:
            # A copy, since the caller's teacher stays where and as it is.
            self.teacher = copy.deepcopy(teacher).to(device).to(memory_format=self.memory_format)
        self.rows = rows_of_process(config.batch_size, accelerator.process_index, world)
        student.train()
        width = 0
        if config.feature_weight and self.teacher is not None:
            # One forward pass asks for the width, which no attribute tells for every network.
            width = teacher_width(self.teacher, self._views(*self._draw(0)))
        splits_norms = config.auxiliary_batch_norm and data.real is not None
        model = StudentWithProjection(student, width, seed, splits_norms=splits_norms)
        self.state = State(model, config, device)
        self.labels = None if data.labels is None else data.labels.to(device)
        self.stored = self._store() if config.stored_logits and self._asks_teacher else None

    @property
    def _asks_teacher(self) -> bool:
        return self.config.hard_label_weight < 1

    @property
    def _weighs_views(self) -> bool:
        """Whether each view's teacher decides how much the labels count in it."""
        return self.config.weight_by_agreement and self._asks_teacher

    def resume(self, checkpoint: Path, progress: Progress) -> None:
        """Go on from the checkpoint, where there is one of use.

        Raises:
            UserError: the machine couldn't read it; of several processes all must.
        """
        reason = ""
        if os.path.lexists(checkpoint):
            try:
                self.state.restore(checkpoint)
            except DamagedCheckpointError as error:
                reason = str(error)
        steps = self.accelerator.gather(torch.tensor([self.state.step], device=self.device))
        if len(set(steps.tolist())) > 1:
            raise UserError(
                f"expected all processes to go on from {checkpoint}, got steps {sorted(set(steps.tolist()))}; give the "
                "same command again"
            )
        if self.state.step:
            progress(self.state.step)
        if reason and self.accelerator.is_main_process:
            set_aside(checkpoint, reason)

    def run(self, checkpoint: Path | None, progress: Progress, on_row: OnRow) -> None:
        """All steps that are left."""
        state, config, row_every = self.state, self.config, steps_of_a_row(self.config.num_steps)
        # Prepared, it averages gradients over processes; for one process the wrapper is left out.
        model = self.accelerator.prepare(state.model) if self.accelerator.num_processes > 1 else state.model
        batches = self.data.batches(self._draw(step)[1] for step in range(state.step, config.num_steps))
        # RandAugment works on the CPU, and the views are sent afterwards.
        batches = batches if config.rand_augment else on_device(batches, self.device)
        # Dropout draws from torch's global generators, which the caller gets back as they were.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for images in batches:
                rate = learning_rate(config, state.step)
                loss = self.step(model, images, rate)
                state.record(loss)
                state.update_average()
                state.step += 1
                progress(1)
                if state.step % row_every == 0 or state.step == config.num_steps:
                    self._check_and_log(loss, rate, keeps=checkpoint is not None)
                    on_row(state.rows[-1])
                is_due = state.step % CHECKPOINT_EVERY == 0 or state.step == config.num_steps
                if is_due and checkpoint is not None and self.accelerator.is_main_process:
                    state.save(checkpoint)

    def step(self, model: nn.Module, images: Tensor, rate: float) -> Tensor:
        """One optimizer step on a batch; returns its loss."""
        state = self.state
        for group in state.optimizer.param_groups:
            # Set at each step, as a function of the step alone: so the schedule has no state to save.
            group["lr"] = rate
        # Dropout follows from the step, so a resumed run drops the same units. Processes drop different ones.
        torch.manual_seed(derive(self.seed, "dropout", state.step, self.accelerator.process_index))
        generator, indices = self._draw(state.step)
        views, mixing = self._mixed(self._views(generator, indices, images))
        loss = self._loss(model, views, mixing, indices)
        state.optimizer.zero_grad()
        # Without fp16 the scaler is off, and these are loss.backward() and optimizer.step().
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return loss.detach()

    # --- data ----------------------------------------------------------------------------------------------------

    def _draw(self, step: int) -> tuple[torch.Generator, Tensor]:
        """The step's random generator, from which the views are drawn next, and the indices (batch,) of its images.

        Of several processes each gets its own part of the batch that one alone would draw.
        """
        generator = torch.Generator().manual_seed(derive(self.seed, "batch", step))
        indices = self.data.draw(generator, self.config.batch_size)
        return generator, indices if self.rows is None else indices[self.rows]

    def _views(self, generator: torch.Generator, indices: Tensor, images: Tensor | None = None) -> Tensor:
        """Augmented views of a batch on the device, which draws them itself."""
        if images is None:
            images = next(self.data.batches([indices]))
        if self.config.rand_augment:
            # Each image's operations follow from its row in the whole batch, however many processes share it.
            rows = range(len(images)) if self.rows is None else self.rows.tolist()
            seeds = [derive(generator.initial_seed(), row) for row in rows]
            images = rand_augment(to_bytes(images), self.config.rand_augment, seeds)
        if self.device.type == "cuda":
            # Drawn where they are needed. From one seed a GPU draws other numbers than a CPU, so a run that is resumed
            # on the other kind of device sees other views.
            generator = torch.Generator(self.device).manual_seed(generator.initial_seed())
        views = self.world.views(to_float(images.to(self.device)), generator, self.rows, self.config.batch_size)
        return views.contiguous(memory_format=self.memory_format)

    def _mixed(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        """MixUp or CutMix, where the recipe has one, and each view's shares of the images."""
        if not (self.config.mixup or self.config.cutmix):
            return views, None
        return mix(views, self.config.mixup, self.config.cutmix, derive(self.seed, "mixture", self.state.step))

    # --- the loss ------------------------------------------------------------------------------------------------

    def _loss(self, model: nn.Module, views: Tensor, mixing: Tensor | None, indices: Tensor) -> Tensor:
        """``(1 - a) T^2 KL + a CE(labels) + w feature loss``, where a may depend on the view."""
        config, losses = self.config, list[Tensor]()
        with self._precision():
            student_logits, features = self._answer(model, views, indices)
        targets = self._targets(mixing, indices, student_logits.shape[1])
        with self._precision(), torch.no_grad():
            teacher_logits = self._teacher_logits(views, mixing, indices, targets)
            asks = config.feature_weight and self.teacher is not None
            wanted = self.teacher.features(views, cropped=True) if asks else None  # type: ignore[union-attr]
        if teacher_logits is not None and targets is not None and self._weighs_views:
            losses.append(agreement_loss(student_logits.float(), teacher_logits.float(), targets,
                                         config.hard_label_weight, config.temperature))  # fmt: skip
        elif teacher_logits is not None:
            # In float32: half precision loses the small probabilities, by which a teacher says what an image resembles.
            kl = distillation_loss(student_logits.float(), teacher_logits.float(), config.temperature)
            losses.append(kl if config.hard_label_weight == 0 else (1 - config.hard_label_weight) * kl)
        if config.hard_label_weight and targets is not None and not self._weighs_views:
            losses.append(config.hard_label_weight * nn.functional.cross_entropy(student_logits.float(), targets))
        if wanted is not None and features is not None:
            losses.append(config.feature_weight * feature_loss(features.float(), wanted.float()))
        # (1 - a) T^2 KL + a CE + w F: Hinton et al. 2015 (KL and CE; their gradients are of one size by the factor
        # T^2), Romero et al. 2015 (F, with a linear map from the student's features to the teacher's). One deviation: F
        # is relative to the teacher's features, see ``feature_loss``.
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _answer(self, model: nn.Module, views: Tensor, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the student says of the views; norms for two kinds of images want the real ones first."""
        if self.state.model.norms is None:
            return model(views)
        is_synthetic = (indices < len(self.data.images)).int()
        order = is_synthetic.argsort(stable=True)
        back = _sent(order.argsort(), self.device)
        sorted_views = views[_sent(order, self.device)].contiguous(memory_format=self.memory_format)
        logits, features = model(sorted_views, len(indices) - int(is_synthetic.sum()))
        return logits[back], None if features is None else features[back]

    def _targets(self, mixing: Tensor | None, indices: Tensor, num_classes: int) -> Tensor | None:
        """Shares of the classes (batch, classes) that were asked for in each view; None for images without labels."""
        if self.labels is None:
            return None
        # Distributions rather than labels, since a mixed view has the labels of two images in its shares.
        labels = self.labels[_sent(indices, self.device)]
        targets = nn.functional.one_hot(labels, num_classes).float()
        return targets if mixing is None else mixing @ targets

    def _teacher_logits(
        self, views: Tensor, mixing: Tensor | None, indices: Tensor, targets: Tensor | None
    ) -> Tensor | None:
        """Of the views, or in fast mode of the images that they show; None where the recipe needs none."""
        if not self._asks_teacher:
            return None
        if self.stored is None:
            return self._ask(views, targets, cropped=True)
        # The teacher never saw this mixture: the mixture of its answers stands for the answer to the mixture.
        logits = self.stored[indices].to(self.device)
        return logits if mixing is None else mixed_logits(logits, mixing, self.config.temperature)

    def _store(self) -> StoredLogits:
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        # Of whole images, in the teacher's own geometry.
        ask = partial(self._ask, cropped=False)
        return store(ask, self.data, self.config.stored_top_k, self.device, share, self.accelerator.gather)

    def _answers(self, indices: Tensor, images: Tensor) -> Tensor:
        """The teacher's logits of whole images, which the fast mode knows already."""
        if self.stored is not None:
            return self.stored[indices]
        labels = None if self.data.labels is None else self.data.labels[indices].to(self.device)
        return self._ask(images, labels, cropped=True)

    @torch.no_grad()
    def _ask(self, images: Tensor, labels: Tensor | None, *, cropped: bool) -> Tensor:
        """The teacher's logits of images, and of what was asked for in them."""
        assert self.teacher is not None
        teacher = self.teacher

        def look(batch: slice) -> Tensor:
            return teacher(images[batch], None if labels is None else labels[batch], cropped=cropped)

        with self._precision():
            return torch.cat([found for _, found in in_batches(len(images), self.looks, look, NO_ROOM)])

    def _precision(self) -> AbstractContextManager:
        name = self.config.mixed_precision
        if name == "auto" and self.device.type != "cuda":
            return fast_matmul(self.device)
        name = "bf16" if name == "auto" else name
        return torch.autocast(self.device.type, DTYPES[name]) if name in DTYPES else nullcontext()

    # --- the end -------------------------------------------------------------------------------------------------

    def _check_and_log(self, loss: Tensor, rate: float, *, keeps: bool) -> None:
        """Check the losses since the last row of the log, and add one."""
        state = self.state
        # Looked at only now and then: to read a loss is to wait for the device.
        every = self.accelerator.gather(torch.stack([loss, state.bad_step])[None])
        bad = every[every[:, 1] >= 0, 1]
        if len(bad):
            last = (state.step - 1) // CHECKPOINT_EVERY * CHECKPOINT_EVERY if keeps else 0
            kept = f"the checkpoint of step {last} is kept" if last else "nothing is kept"
            raise UserError(
                f"expected a finite loss, got another at step {bad.min():.0f}; {kept}; lower the learning rate"
            )
        state.rows.append({"step": state.step, "loss": round(every[:, 0].mean().item(), 5), "lr": round(rate, 8)})

    def finish(self) -> TrainingLog:
        """Give the student its averaged weights, and look back."""
        state = self.state
        student = state.model.release()
        student.load_state_dict(broadcast(state.average))  # batch norm's statistics differ between processes
        student.eval()
        # Each process saw the losses of its part of the batches.
        sums = self.accelerator.reduce(state.sums, "mean")
        teacher = self._answers if self._asks_teacher else None
        back = look_back(student, self.data, self.device, teacher, self.world.plain)
        student.to(self.original_device)
        num_steps = self.config.num_steps
        return TrainingLog(state.rows, quarter_means(sums, num_steps), curve=curve_of(sums, num_steps), **vars(back))


def _sent(indices: Tensor, device: torch.device) -> Tensor:
    """Indices on the device, without waiting for what it computes."""
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)


def steps_of_a_row(num_steps: int) -> int:
    """Steps between two rows of the log: a divisor of those between two checkpoints, and of 50 rows at least."""
    # A divisor, so that a checkpoint is saved only of a loss that was looked at.
    return max(every for every in range(1, CHECKPOINT_EVERY + 1)
               if CHECKPOINT_EVERY % every == 0 and (every == 1 or every * NUM_ROWS <= num_steps))  # fmt: skip


def rows_of_process(batch_size: int, process: int, num_processes: int) -> Tensor | None:
    """Rows of a batch that are one process's: a part of the first half and its mirror image; None: all rows.

    So the mirrored batch, which mixing takes its partners from, is the same for one process and for several.
    """
    if num_processes == 1:
        return None
    size = batch_size // (2 * num_processes)
    first = torch.arange(process * size, (process + 1) * size)
    return torch.cat([first, batch_size - 1 - first.flip(0)])


def learning_rate(config: DistillationConfig, step: int) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine to zero, or the first half of one."""
    warm_up = max(1, config.num_steps // 20)
    # Cosine: Loshchilov and Hutter 2017; warm-up: Goyal et al. 2017. From step + 1, so that the first step moves.
    end = 2 * config.num_steps if config.schedule == "half-cosine" else config.num_steps
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / end)
    return config.learning_rate * min(1.0, (step + 1) / warm_up) * cosine


def _check_recipe(
    config: DistillationConfig, teacher: Classifier | None, data: TrainingSet, world: int, device: torch.device
) -> None:
    if (config.hard_label_weight > 0 or config.weight_by_agreement) and data.labels is None:
        name = "hard_label_weight" if config.hard_label_weight > 0 else "weight_by_agreement"
        raise UserError(f"expected labels for distillation.{name}, got images alone; pass a TrainingSet")
    if teacher is None and (config.hard_label_weight < 1 or config.feature_weight > 0):
        raise UserError(
            "expected a teacher, got none; without one set distillation.hard_label_weight to 1 and feature_weight to 0"
        )
    # Partners in a mixture are a batch's mirror images (``rows_of_process``), so its halves are cut evenly.
    pairs = 2 * world if world > 1 or config.mixup or config.cutmix else 1
    if config.batch_size % pairs:
        raise UserError(
            f"expected a multiple of {pairs} for distillation.batch_size, got {config.batch_size}: images are mixed in "
            f"pairs and shared by {world} processes; change it"
        )
    if config.auxiliary_batch_norm and data.real is not None:
        _check_split(config, data, world)
    if config.mixed_precision == "fp16" and device.type == "cpu":
        raise UserError("expected a GPU for distillation.mixed_precision fp16, got a CPU; use auto or bf16")


def _check_split(config: DistillationConfig, data: TrainingSet, world: int) -> None:
    """Norms of two kinds need views of either kind, and two of each in every batch."""
    if config.mixup or config.cutmix or world > 1:
        got = f"{world} processes" if world > 1 else "mixup or cutmix, whose views are of both kinds"
        raise UserError(f"expected one process without mixtures for distillation.auxiliary_batch_norm, got {got}; set "
                        "it to false, or change that")  # fmt: skip
    num_real = round(data.real_share * config.batch_size)
    if not 2 <= num_real <= config.batch_size - 2:
        raise UserError(
            f"expected two real and two synthetic images in every batch for distillation.auxiliary_batch_norm, got "
            f"{num_real} real ones of {config.batch_size}; change distillation.real_share or batch_size"
        )
