"""What a training is made of at a step, and its checkpoint."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier
from prismkd.config import DistillationConfig
from prismkd.config.seeds import derive
from prismkd.distillation.log import NUM_PARTS, part_of
from prismkd.distillation.split_norms import SplitNorms
from prismkd.distillation.student import classifier_of
from prismkd.errors import UserError
from prismkd.files import remove_leftovers, writing
from prismkd.files.documents import as_shape
from prismkd.foreign.checkpoint import DamagedCheckpointError, check_alike, read_checkpoint

# What an optimizer keeps of each parameter: tensors of its shape, and the number of its steps
MOMENTS = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}
ONEDNN_BLOCK = 16  # channels that it works on together: 8 with AVX2, 16 with AVX-512


class StudentWithProjection(nn.Module):
    """The student, and what is beside it in the training alone.

    For the feature loss that is a learned linear map from its features to the teacher's. Where the recipe has it, it is
    also batch norms for the synthetic images beside real ones.
    """

    def __init__(
        self, student: nn.Module, teacher_width: int = 0, seed: int = 0, *, splits_norms: bool = False
    ) -> None:
        super().__init__()
        self.student = student
        self.norms = SplitNorms(student) if splits_norms else None
        self.projection: nn.Linear | None = None
        if teacher_width:
            last = classifier_of(student)
            # The projection's weights are drawn aside, so that a feature loss changes no other random number.
            with torch.random.fork_rng():
                torch.manual_seed(derive(seed, "feature map"))
                self.projection = nn.Linear(last.in_features, teacher_width)
            # What the last layer gets is the penultimate features, whatever the network calls them.
            self._hook = last.register_forward_pre_hook(self._remember)

    def release(self) -> nn.Module:
        """The student alone."""
        if self.projection is not None:
            self._hook.remove()
        if self.norms is not None:
            self.norms.release()
        return self.student

    def _remember(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def forward(self, views: Tensor, num_real: int = 0) -> tuple[Tensor, Tensor | None]:
        """Logits, and features in the teacher's space or None; with norms for both kinds, real images come first."""
        if self.norms is not None:
            self.norms.num_real = num_real
        logits = self.student(views)
        return logits, None if self.projection is None else self.projection(self._features)


class State:
    """All that changes from step to step.

    Attributes:
        model: the student, and the projection of its features where the recipe has a feature loss.
        average: the moving average of the student's weights.
        step: the next one.
        sums: the loss summed over each of 40 equal parts of the steps.
        bad_step: the first step whose loss wasn't finite, or -1.
        rows: of the log.
    """

    def __init__(self, model: StudentWithProjection, config: DistillationConfig, device: torch.device) -> None:
        self.model = model.to(device).to(memory_format=memory_format_of(model, device))
        self.config = config
        self.optimizer = new_optimizer(model, config)
        # Only fp16 needs it: bfloat16 has the range of float32, in which small gradients don't underflow.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.mixed_precision == "fp16")
        self.average = {name: tensor.clone() for name, tensor in model.student.state_dict().items()}
        self.step, self.rows = 0, list[dict[str, float]]()
        # These two stay on the device, since reading them at every step would wait for it.
        self.sums = torch.zeros(NUM_PARTS, device=device)
        self.bad_step = torch.full((), -1.0, device=device)

    def record(self, loss: Tensor) -> None:
        """Note a step's loss without waiting for the device."""
        self.sums[part_of(self.step, self.config.num_steps)] += loss
        first = (self.bad_step < 0) & ~loss.isfinite()
        self.bad_step = torch.where(first, float(self.step), self.bad_step)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the student; in the first steps it moves faster."""
        # The warm-up of TensorFlow's ExponentialMovingAverage, (1 + n) / (10 + n) after n updates. With the full decay
        # from the start the untrained weights would keep a share of decay^n: 37 % after 100 steps at 0.99.
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        # All tensors at once: on an accelerator a call for each would take longer than what it computes.
        torch._foreach_lerp_(*self._averaged, 1 - decay)
        if self._counts[0]:
            torch._foreach_copy_(*self._counts)

    @cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor]]:
        """The averages and the student's own tensors, which both change in place."""
        return self._pairs(is_averaged=True)

    @cached_property
    def _counts(self) -> tuple[list[Tensor], list[Tensor]]:
        """As ``_averaged``, of batch norm's count of batches, which is no quantity to average."""
        return self._pairs(is_averaged=False)

    def _pairs(self, *, is_averaged: bool) -> tuple[list[Tensor], list[Tensor]]:
        own = self.model.student.state_dict()
        names = [name for name, tensor in own.items() if tensor.is_floating_point() == is_averaged]
        return [self.average[name] for name in names], [own[name] for name in names]

    def save(self, path: Path) -> None:
        """Replace the checkpoint at once, so that a kill or a full disk leaves the old one or the new one."""
        remove_leftovers(path)
        with writing(path) as file:
            torch.save(self._contents(), file)

    def restore(self, path: Path) -> None:
        """Load the checkpoint that ``save`` wrote; nothing changes where it is of no use.

        Raises:
            DamagedCheckpointError: it is damaged, or of another training.
            UserError: the machine couldn't read it.
        """
        found = read_checkpoint(path)
        self._check(found)
        self.model.load_state_dict(found["model"])
        # In the groups of this training: the file decides about the moments, not about weight decay or momentum.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": found["optimizer"]["state"], "param_groups": groups})
        self.scaler.load_state_dict(found["scaler"])
        for name, tensor in found["average"].items():
            self.average[name].copy_(tensor)
        self.sums, self.step, self.rows = found["sums"].to(self.sums.device), found["step"], found["log"]

    def _contents(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
                "scaler": self.scaler.state_dict(), "average": self.average, "sums": self.sums,
                "log": self.rows}  # fmt: skip

    def _check(self, found: Any) -> None:
        """Refuse what this training can't have written."""
        own = self._contents()
        if not isinstance(found, dict) or found.keys() != own.keys():
            raise DamagedCheckpointError("other keys")
        for name in ("model", "average", "scaler", "sums"):
            check_alike(found[name], own[name], name)
        try:
            as_shape({"step": found["step"], "log": found["log"]}, _Progress, "its steps")
        except UserError as error:
            raise DamagedCheckpointError(str(error).partition(";")[0]) from None
        if found["step"] > self.config.num_steps:
            raise DamagedCheckpointError(f"step {found['step']} of {self.config.num_steps}")
        self._check_moments(found["optimizer"])

    def _check_moments(self, optimizer: Any) -> None:
        """Refuse what this optimizer can't have kept of these parameters."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        kept = optimizer.get("state") if isinstance(optimizer, dict) else None
        if not isinstance(kept, dict) or not kept.keys() <= set(range(len(parameters))):
            raise DamagedCheckpointError("another state of the optimizer")
        for place, moments in kept.items():
            own = dict.fromkeys(MOMENTS[self.config.optimizer], parameters[place])
            own |= {"step": torch.zeros(())} if "step" in own else {}
            check_alike(moments, own, f"moments of parameter {place}")


class _Row(TypedDict):
    step: Annotated[int, msgspec.Meta(ge=0)]
    loss: float
    lr: float


class _Progress(TypedDict):
    step: Annotated[int, msgspec.Meta(ge=0)]
    log: list[_Row]


def memory_format_of(network: nn.Module, device: torch.device) -> torch.memory_format:
    """channels_last, which is faster; the contiguous format for networks that crash with it on a CPU.

    On a CPU, oneDNN's gradient of a strided 1 x 1 convolution of few channels in that format writes beyond its memory
    (uxlfoundation/oneDNN issue 6035): with torch 2.14 on AVX2 the process hangs or dies.
    """
    if device.type == "cpu" and any(
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and max(layer.stride) > 1
        and layer.in_channels < ONEDNN_BLOCK for layer in network.modules()
    ):  # fmt: skip
        return torch.contiguous_format
    return torch.channels_last


def new_optimizer(model: nn.Module, config: DistillationConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov's momentum."""
    # One kernel for all parameters; on a CPU the digits would be others.
    fused = True if next(model.parameters()).is_cuda else None
    if config.optimizer == "sgd":
        # Nesterov needs a momentum; torch refuses it at 0.
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay,
                               momentum=config.momentum, nesterov=config.momentum > 0, fused=fused)  # fmt: skip
    return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)


def teacher_width(teacher: Classifier, images: Tensor) -> int:
    """The width of the teacher's penultimate features."""
    with torch.no_grad():
        return teacher.features(images[:1], cropped=True).shape[1]
