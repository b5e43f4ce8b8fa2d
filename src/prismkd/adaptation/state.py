"""What an adapter's training is made of at a step, its checkpoint, and the record that stays."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from msgspec import Meta
from torch import Tensor

from prismkd.adaptation.check import Check
from prismkd.adaptation.low_rank import LowRank
from prismkd.errors import UserError, warn
from prismkd.files import remove, remove_leftovers, writing
from prismkd.files.documents import as_shape
from prismkd.foreign.checkpoint import DamagedCheckpointError, check_alike, read_checkpoint, set_aside


@dataclass(frozen=True)
class Adaptation:
    """How an adapter was trained.

    Attributes:
        chosen_step: whose weights were kept: of the lowest energy among the steps whose diversity was allowed; 0 where
            none was better than no adapter.
        num_steps: that were trained.
        stopped: whether a loss of diversity ended the training.
        checks: of unguided images, the first one without an adapter.
        guided: of the same images without an adapter, but guided: what EDA would make of them.
        losses: of each step.
        seconds: that it took.
    """

    chosen_step: int
    num_steps: int
    stopped: bool
    checks: list[Check]
    guided: Check
    losses: list[float]
    seconds: float


class _Progress(TypedDict):
    """The plain part of a checkpoint."""

    step: Annotated[int, Meta(ge=0)]
    chosen_step: Annotated[int, Meta(ge=0)]
    stopped: bool
    checks: list[Check]
    guided: Check
    losses: list[float]
    seconds: float


class State:
    """All that changes from step to step.

    Attributes:
        step: the next one.
        stopped: whether diversity was lost.
        checks, guided, losses: so far, as of ``Adaptation``.
        best: the matrices of ``chosen_step``.
    """

    def __init__(self, matrices: LowRank, optimizer: torch.optim.Optimizer) -> None:
        self.matrices, self.optimizer = matrices, optimizer
        self.step, self.chosen_step, self.stopped = 0, 0, False
        self.checks, self.guided, self.losses = list[Check](), Check(0, 0.0, 0.0, 0.0), list[float]()
        self._earlier, self._start = 0.0, time.monotonic()
        self.best: dict[str, Tensor] = matrices.state()

    @property
    def seconds(self) -> float:
        """Of this process and those that the checkpoint is of."""
        return self._earlier + time.monotonic() - self._start

    def outcome(self) -> Adaptation:
        """The record."""
        return Adaptation(
            self.chosen_step, self.step, self.stopped, self.checks, self.guided, self.losses, self.seconds
        )

    def save(self, path: Path, identity: str) -> None:
        """Replace the checkpoint at once, so that a kill or a full disk leaves the old one or the new one."""
        remove_leftovers(path)
        with writing(path) as file:
            torch.save(self._contents(identity), file)

    def resume(self, path: Path, identity: str, num_steps: int) -> int:
        """Go on from a checkpoint, where there is one of use; the number of its steps.

        Raises:
            UserError: the machine couldn't read it.
        """
        if not os.path.lexists(path):
            return 0
        try:
            found = read_checkpoint(path)
            if isinstance(found, dict) and found.get("identity") != identity:
                warn(f"the half-trained adapter in {path} is deleted, since its settings are others now")
                remove(path)
                return 0
            self._restore(found, identity, num_steps)
        except DamagedCheckpointError as error:
            set_aside(path, str(error))
        return self.step

    def _contents(self, identity: str) -> dict[str, Any]:
        return {"identity": identity, "matrices": self.matrices.state(), "best": self.best,
                "optimizer": self.optimizer.state_dict()["state"], "progress": self._progress()}  # fmt: skip

    def _progress(self) -> dict[str, Any]:
        return {"step": self.step, "chosen_step": self.chosen_step, "stopped": self.stopped, "losses": self.losses,
                "checks": [asdict(check) for check in self.checks], "guided": asdict(self.guided),
                "seconds": self.seconds}  # fmt: skip

    def _restore(self, found: Any, identity: str, num_steps: int) -> None:
        """Take over what ``save`` wrote; nothing changes where it can't be that.

        Raises:
            DamagedCheckpointError: says why.
        """
        own = self._contents(identity)
        if not isinstance(found, dict) or found.keys() != own.keys():
            raise DamagedCheckpointError("other keys")
        for name in ("matrices", "best"):
            check_alike(found[name], own[name], name)
        parameters = list(self.matrices.parameters.values())
        moments = {"exp_avg": Tensor, "exp_avg_sq": Tensor}
        like = {place: {**dict.fromkeys(moments, parameter.detach()), "step": torch.zeros(())}
                for place, parameter in enumerate(parameters)}  # fmt: skip
        check_alike(found["optimizer"], like, "the optimizer")
        try:
            progress = as_shape(found["progress"], _Progress, "its steps")
        except UserError as error:
            raise DamagedCheckpointError(str(error).partition(";")[0]) from None
        if not progress["chosen_step"] <= progress["step"] <= num_steps or not progress["checks"]:
            raise DamagedCheckpointError(f"step {progress['step']} of {num_steps}")
        self.matrices.load(found["matrices"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": found["optimizer"], "param_groups": groups})
        self.best, self.step, self.chosen_step = found["best"], progress["step"], progress["chosen_step"]
        self.stopped, self.checks, self.losses = progress["stopped"], progress["checks"], progress["losses"]
        self.guided, self._earlier = progress["guided"], progress["seconds"]
