"""A run whose teacher is several: how they are combined is learned once, kept, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prismkd.cli import main
from prismkd.prompts import load_classes
from prismkd.students import SmallResNet
from prismkd.teachers import save_classifier

TINY = """
methods = ["plain"]
[prompts]
num_teacher_probes = 1
num_probes = 0
[generator]
num_inference_steps = 2
"""


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run directory after its prompts stage, and the arguments that go on with it."""
    folder = tmp_path_factory.mktemp("several")
    names = [item.name for item in load_classes("pictograms")]
    torch.manual_seed(0)
    for number, known in enumerate((names[:16], names[8:])):
        config = {"architecture": "small-resnet-4", "num_classes": 16, "in_channels": 1, "label_names": known}
        save_classifier(folder / f"owner-{number}", SmallResNet(16, 4), config)
    (folder / "teachers.toml").write_text('[[teacher]]\nsource = "owner-0"\n[[teacher]]\nsource = "owner-1"\n')
    (folder / "tiny.toml").write_text(TINY)
    rest = ["--config", str(folder / "tiny.toml"), "--out", str(folder / "out"),
            "--teacher", str(folder / "teachers.toml")]  # fmt: skip
    assert main(["prompts", *rest]) == 0
    return folder / "out", rest


def test_the_map_is_kept_with_what_it_is_worth(combined: tuple[Path, list[str]]) -> None:
    record = json.loads((combined[0] / "ensemble.json").read_text())
    assert record["num_images"] == 24 and str(record["ridge"]) in record["cross_entropy"]


def test_a_later_command_reads_it_and_learns_nothing_anew(
    combined: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, rest = combined
    before = (out / "ensemble.safetensors").read_bytes()
    assert main(["prompts", *rest]) == 0
    assert "combining the teachers" not in capsys.readouterr().err
    assert (out / "ensemble.safetensors").read_bytes() == before


def test_stopped_before_the_map_was_written_it_is_learned_again(combined: tuple[Path, list[str]]) -> None:
    out, rest = combined
    before = (out / "ensemble.safetensors").read_bytes()
    (out / "ensemble.safetensors").unlink()
    assert main(["prompts", *rest]) == 0
    assert (out / "ensemble.safetensors").read_bytes() == before


@pytest.mark.parametrize("state", [None, {"weight": torch.zeros(24, 7), "bias": torch.zeros(24)}])
def test_a_damaged_or_foreign_map_is_one_line(
    state: dict[str, torch.Tensor] | None, combined: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, rest = combined
    path = out / "ensemble.safetensors"
    kept = path.read_bytes()
    if state is None:
        path.write_bytes(b"no weights")
    else:
        save_file(state, path)
    try:
        assert main(["prompts", *rest]) == 2
    finally:
        path.write_bytes(kept)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: expected we") and str(path) in lines[-1]
