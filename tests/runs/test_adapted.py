"""Methods that draw with an adapted generator: the adapter is a part of the run, made once and found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prismkd import Session
from prismkd.adaptation import loop
from prismkd.cli import main
from prismkd.config.load import load_config
from prismkd.errors import UserError
from prismkd.records.digests import file_digest
from prismkd.records.results import load_run
from prismkd.report.tables import adaptation_table

SETTINGS = """
classes = "pictograms-24"
methods = ["dpe", "adapted", "adapted-prism"]
prompts = {num_probes = 0, num_content_probes = 0, id_share = 0.5}
generator = {num_inference_steps = 4}
guidance = {domains = "own", energy = "conditional", num_calibration_images = 24, num_views = 1}
adaptation = {num_steps = 2, batch_size = 4, rank = 4, learning_rate = 0.01, check_every = 2, num_check_images = 12}
synthesis = {images_per_class = 1}
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "adapted.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def run(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images are drawn."""
    out = tmp_path_factory.mktemp("runs") / "adapted"
    for command in ("prompts", "adapt", "synthesize"):
        assert main([command, "--config", str(settings), "--out", str(out)]) == 0
    return out


def identity(run: Path, method: str) -> dict[str, object]:
    return json.loads((run / "seed-0" / method / "images" / "dataset.json").read_text())["identity"]


def test_the_adapter_is_recorded_and_decides_about_the_images_of_its_methods(run: Path) -> None:
    record = json.loads((run / "adapter" / "adaptation.json").read_text())
    weights = run / "adapter" / "adapter_model.safetensors"
    assert record["digest"] == file_digest(weights) and record["seconds"] > 0
    assert [check["step"] for check in record["checks"]] == [0, 2]
    assert not (run / "adapter" / loop.CHECKPOINT).exists()
    assert "adapter" not in identity(run, "dpe")
    assert identity(run, "adapted")["adapter"] == identity(run, "adapted-prism")["adapter"] == record["digest"]
    assert "guidance" not in identity(run, "adapted") and "guidance" in identity(run, "adapted-prism")


def test_the_report_shows_how_the_adapter_was_trained(run: Path) -> None:
    results = load_run(run, finished=False)
    table = adaptation_table(results)
    assert table is not None and [row.label.partition(",")[0] for row in table.rows] == ["0", "2", "No adapter"]
    assert sum("kept" in row.label for row in table.rows) == 1


def test_the_same_command_again_trains_nothing(run: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prismkd.runs.session.adapt", None)
    before = (run / "adapter" / "adaptation.json").stat().st_mtime_ns
    assert main(["adapt", "--config", str(settings), "--out", str(run)]) == 0
    assert main(["synthesize", "--out", str(run)]) == 0
    assert (run / "adapter" / "adaptation.json").stat().st_mtime_ns == before


def test_other_settings_of_adaptation_are_refused_once_there_is_an_adapter(
    run: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--config", str(settings), "--adaptation.rank", "2"]
    assert main(["adapt", *other, "--out", str(run)]) == 2
    assert "another adaptation.rank" in capsys.readouterr().err
    begun = tmp_path / "begun"
    assert main(["prompts", "--config", str(settings), "--out", str(begun)]) == 0
    assert main(["prompts", *other, "--out", str(begun)]) == 0


def test_an_adapter_with_other_bytes_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = run / "adapter" / "adapter_model.safetensors"
    original = weights.read_bytes()
    try:
        weights.write_bytes(original[:-4] + b"\0\0\1\0")
        assert main(["adapt", "--out", str(run)]) == 2
        assert "expected the adapter in" in capsys.readouterr().err
    finally:
        weights.write_bytes(original)


def test_a_run_without_an_adapted_method_trains_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["adapt", "--classes", "pictograms-24", "--methods", "plain", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "expected a method that draws with an adapter" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_session_draws_with_and_without_it_in_turn(settings: Path) -> None:
    session = Session(load_config(settings))
    before = session.draw("dpe", 6)[0]
    adapted = session.draw("adapted", 6)[0]
    assert torch.equal(session.draw("dpe", 6)[0], before)
    assert torch.equal(session.draw("adapted", 6)[0], adapted)
    kept = session.adapter
    assert kept.file.is_file()


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [("--guidance.strength", "0", "expected guidance.strength above 0 for adapted"),
     ("--generator.offload", "", "expected generator.offload = false for adapted")],
)  # fmt: skip
def test_what_adaptation_cannot_do_is_said_before_anything_is_drawn(
    flag: str, value: str, message: str, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--config", str(settings), "--out", str(tmp_path / "run"), flag, value]
    assert main([word for word in words if word]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_guidance_of_no_strength_has_nothing_to_teach(settings: Path) -> None:
    config = load_config(settings)
    config = replace(config, guidance=replace(config.guidance, strength=0.0))
    with pytest.raises(UserError, match=r"expected guidance\.strength above 0"):
        _ = Session(config).adapter
