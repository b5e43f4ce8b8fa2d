"""Two processes train as one does: the same gradients, and the same student in both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prismkd.distillation.loop import rows_of_process

PROGRAM = str(Path(__file__).with_name("one_of_several.py"))
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize("num_processes", [2, 4])
def test_processes_share_a_batch_and_keep_mirrored_rows_together(num_processes: int) -> None:
    parts = [rows_of_process(16, process, num_processes) for process in range(num_processes)]
    assert sorted(torch.cat(parts).tolist()) == list(range(16))
    for rows in parts:
        assert torch.equal(rows + rows.flip(0), torch.full((len(rows),), 15))


def run(arguments: list[str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    for launcher in ((), TWO):
        folder = tmp_path / str(len(launcher))
        folder.mkdir()
        run([*launcher, PROGRAM, str(folder)])
    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ("0/found-alone.pt", "5/found-0.pt", "5/found-1.pt")
    )
    for kind in ("plain", "norm"):
        for a, b in zip(first[kind], second[kind], strict=True):
            assert all(torch.equal(a[name], b[name]) for name in a)
    assert len(alone["plain"]) == 4
    for a, b in zip(first["plain"], alone["plain"], strict=True):
        assert all((a[name] - b[name]).abs().max() < 1e-5 for name in b)
        assert any(b[name].abs().max() > 1e-3 for name in b)
