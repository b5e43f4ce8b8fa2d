"""What each process of ``test_processes.py`` does; a program, so that it can be launched."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from worlds import ALL, bright_side, ignore, mixture  # beside this file

from prismkd.config import DistillationConfig
from prismkd.distillation import new_student, train

WITHOUT_NORM = replace(ALL, batch_size=8, num_steps=3, mixed_precision="no", stored_logits=True, ema_decay=0.0)
WITH_NORM = replace(ALL, batch_size=8, num_steps=3, mixed_precision="no")


class Plain(nn.Module):
    """A student without batch norm, which would see its own process's part of a batch only."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 8, 5, 4), nn.Linear(8, 2)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).tanh().mean((2, 3)))


def trained(student: nn.Module, config: DistillationConfig, checkpoint: Path) -> list[dict[str, Tensor]]:
    """The gradients of every step, as the optimizer sees them, and then the student."""
    found: list[dict[str, Tensor]] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        tensors = [p.grad for group in optimizer.param_groups for p in group["params"]]
        found.append({str(place): tensor.clone() for place, tensor in enumerate(tensors)})

    handle = register_optimizer_step_pre_hook(note)
    train(student, bright_side(), mixture(), config, 0, checkpoint, ignore)
    handle.remove()
    return [*found, student.state_dict()]


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), os.environ.get("RANK", "alone")
    plain = trained(Plain(), WITHOUT_NORM, folder / "plain.pt")
    norm = trained(new_student(WITH_NORM, 2, 1, seed=0), WITH_NORM, folder / "norm.pt")
    torch.save({"plain": plain, "norm": norm}, folder / f"found-{rank}.pt")
