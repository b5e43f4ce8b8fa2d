"""From Python: a module of the user's own as the teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from prismkd.classifiers import Preprocessing, load_teacher, weights_digest
from prismkd.cli import main
from prismkd.config import (
    Config,
    DistillationConfig,
    EvaluationConfig,
    GeneratorConfig,
    GuidanceConfig,
    PreprocessingConfig,
    PromptsConfig,
    SynthesisConfig,
)
from prismkd.errors import UserError
from prismkd.progress import silent
from prismkd.records.directory import recorded_config
from prismkd.runs import workers
from prismkd.runs.api import run
from prismkd.runs.open import open_run
from prismkd.shards import read_samples, to_array

TINY = Config(
    classes="pictograms-24",
    methods=("plain", "eda"),
    prompts=PromptsConfig(num_probes=0),
    generator=GeneratorConfig(num_inference_steps=4),
    guidance=GuidanceConfig(num_calibration_images=24, num_views=1),
    synthesis=SynthesisConfig(images_per_class=1, shard_size=24),
    distillation=DistillationConfig(architecture="small-resnet-4", num_steps=2, batch_size=8),
    evaluation=EvaluationConfig(judge=""),
)
OTHERS = {"vit": ("test_vit", {"img_size": 32, "patch_size": 8}), "convnext": ("test_convnext", {})}


@pytest.fixture
def tiny(few_icons: Path) -> Config:
    """The same with few test images."""
    return replace(TINY, evaluation=replace(TINY.evaluation, source=str(few_icons / "test.parquet"), real=""))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_module_guides_and_distils(kind: str, tiny: Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, arguments = OTHERS[kind]
    network = timm.create_model(name, num_classes=24, **arguments).eval()
    wanted = Preprocessing(3, (32, 32), mean=(0.5,), std=(0.5,))
    result = run(tiny, tmp_path / "run", teacher=network, preprocessing=wanted)
    assert result.report.is_file() and set(result.top1) == {"teacher", "plain", "eda"}
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["teacher"].startswith("module ")
    energies = json.loads((tmp_path / "run" / "seed-0" / "eda" / "evaluation.json").read_text())["energy"]
    assert len(energies["before"]) == len(energies["after"]) == 24
    other = timm.create_model(name, num_classes=24, **arguments).eval()
    with pytest.raises(UserError, match=r"got another .*teacher"):
        run(tiny, tmp_path / "run", teacher=other, preprocessing=wanted)


def test_the_fast_mode_keeps_the_teachers_logits_with_the_images(tiny: Config, tmp_path: Path) -> None:
    fast = replace(tiny, methods=("plain",), distillation=replace(tiny.distillation, stored_logits=True))
    run(fast, tmp_path / "run")
    samples = list(read_samples(tmp_path / "run" / "seed-0" / "plain" / "images"))
    images = torch.stack([torch.from_numpy(to_array(sample)) for sample in samples])
    expected = load_teacher("pictograms", TINY.classes)(images)
    kept = torch.stack([torch.from_numpy(sample.logits) for sample in samples])
    torch.testing.assert_close(kept.float(), expected, atol=0.02, rtol=0.002)


class OwnNetwork(nn.Module):
    """A student that no library knows."""

    def __init__(self, num_classes: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def test_a_student_of_the_users_own(tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(tiny, methods=("plain",))
    assert run(config, tmp_path / "run", student=OwnNetwork).report.is_file()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["distillation"]["architecture"].startswith("module OwnNetwork ")
    state = load_file(tmp_path / "run" / "seed-0" / "plain" / "student" / "model.safetensors")
    OwnNetwork().load_state_dict(state)
    assert run(config, tmp_path / "run", student=OwnNetwork).report.is_file()
    arguments = ["--method", "plain", "--to", "onnx", "--dest", str(tmp_path / "out")]
    assert main(["export", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert "'module OwnNetwork" in capsys.readouterr().err
    assert run(config, tmp_path / "run").report.is_file()  # another recipe: the network that the settings name
    (kept,) = (tmp_path / "run" / "seed-0" / "plain").glob("student-architecture-module-OwnNetwork-*")
    assert (kept / "evaluation.json").is_file()


def test_students_that_cannot_be(tmp_path: Path) -> None:
    network = OwnNetwork()
    with pytest.raises(UserError, match=r"expected a function that makes a new student at each call, got the same one"):
        run(TINY, tmp_path / "run", student=lambda: network)
    assert not (tmp_path / "run").exists()
    config = replace(TINY, methods=("plain",))
    with pytest.raises(UserError, match=r"expected logits \(2, 24\) of the student, got \(2, 5\); check"):
        run(config, tmp_path / "five", student=lambda: OwnNetwork(5))
    config = replace(config, distillation=replace(config.distillation, architecture="efficientformer_l1"))
    with pytest.raises(UserError, match=r"expected a student that takes images \(2, 3, 64, 64\), got RuntimeError"):
        run(config, tmp_path / "fixed")


def test_a_module_stays_in_its_process(tmp_path: Path) -> None:
    config = replace(TINY, synthesis=replace(TINY.synthesis, num_workers=2))
    with pytest.raises(UserError, match="which no worker can open; save it as a folder"):
        run(config, tmp_path / "run", teacher=nn.Identity().eval())


def test_a_module_is_drawn_for_on_one_of_several_gpus_and_it_is_said(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_convnext", num_classes=24).eval()
    monkeypatch.setattr(workers, "device_names", lambda name: ["cpu", "cpu"])
    result = run(replace(tiny, methods=("plain",)), tmp_path / "run", teacher=network, preprocessing=Preprocessing(3))
    assert result.report.is_file()
    assert "one process draws on one of the 2 devices here, since the teacher is a module" in capsys.readouterr().err


def test_teacher_preprocessing_is_recorded_and_makes_another_teacher(tiny: Config, tmp_path: Path) -> None:
    config = replace(tiny, methods=("plain",), teacher_preprocessing=PreprocessingConfig(resize=(28, 28), mean=(0.1,)))
    run_of = open_run(config, tmp_path / "run", "test", silent)
    assert run_of.teacher.preprocess == Preprocessing(3, (28, 28), mean=(0.1,))
    assert run_of.teacher_digest != weights_digest(load_teacher("pictograms", TINY.classes))
    recorded = recorded_config(tmp_path / "run")
    assert recorded.teacher_preprocessing == config.teacher_preprocessing
    with pytest.raises(UserError, match=r"got another teacher_preprocessing\.mean, teacher_preprocessing\.resize"):
        open_run(replace(config, teacher_preprocessing=PreprocessingConfig()), tmp_path / "run", "test", silent)


def test_a_module_takes_what_is_set_of_its_preprocessing(tiny: Config, tmp_path: Path) -> None:
    class Sized(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape[-2:] == (48, 40)
            return images.flatten(1)[:, :24]

    config = replace(tiny, methods=("plain",), teacher_preprocessing=PreprocessingConfig(resize=(48, 40)))
    assert run(config, tmp_path / "run", teacher=Sized().eval()).report.is_file()


def test_memory_holds_the_images_of_one_process(tiny: Config, tmp_path: Path) -> None:
    config = replace(tiny, synthesis=replace(TINY.synthesis, storage=f"memory://{tmp_path.name}", num_workers=1))
    with pytest.raises(UserError, match=r"expected synthesis\.storage that worker processes share, got memory://"):
        run(config, tmp_path / "run")
    config = replace(config, synthesis=replace(config.synthesis, num_workers=0))
    assert run(config, tmp_path / "run").report.is_file() and not list(tmp_path.rglob("*.tar"))


def test_settings_are_checked_as_on_the_command_line(tmp_path: Path) -> None:
    config = replace(TINY, synthesis=replace(TINY.synthesis, storage="s3://key:secret@bucket/x"))
    with pytest.raises(UserError, match=r"expected synthesis.storage without user and password"):
        run(config, tmp_path / "run")


def test_a_run_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected a folder on a disk for a run, got s3://bucket/run"):
        run(TINY, "s3://bucket/run")
    assert not list(tmp_path.iterdir())
