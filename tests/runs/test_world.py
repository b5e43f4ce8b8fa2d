"""A run whose teacher has an input size: its students' images, their cache, and what their folders say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prismkd.classes.lists import load_classes
from prismkd.classifiers import load_classifier, save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.config import (
    Config,
    DistillationConfig,
    EvaluationConfig,
    GeneratorConfig,
    PromptsConfig,
    SynthesisConfig,
)
from prismkd.errors import UserError
from prismkd.progress import silent
from prismkd.runs.open import open_run
from prismkd.runs.stages import STAGES

PREPROCESSING = {"resize": 28, "crop": [24, 24], "interpolation": "bicubic", "mean": [0.4], "std": [0.3]}


@pytest.fixture
def config(few_icons: Path, tmp_path: Path) -> Config:
    """Icons of 64 pixels in color for a teacher of 24; three real photographs, gray, of two classes and three sizes."""
    names = [item.name for item in load_classes("pictograms-24")]
    teacher = {"architecture": "small-resnet-4", "num_classes": len(names), "in_channels": 3, **PREPROCESSING}
    save_classifier(tmp_path / "teacher", new_network("small-resnet-4", len(names), in_channels=3), teacher)
    rng = np.random.default_rng(0)
    for place, (name, size) in enumerate(((names[0], (50, 40)), (names[0], (9, 20)), (names[1], (100, 100)))):
        path = tmp_path / "photos" / name / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)
    return Config(
        classes="pictograms-24",
        teacher=str(tmp_path / "teacher"),
        methods=("plain", "real"),
        prompts=PromptsConfig(num_probes=0),
        generator=GeneratorConfig(num_inference_steps=2),
        synthesis=SynthesisConfig(images_per_class=1, shard_size=24),
        distillation=DistillationConfig(
            architecture="small-resnet-4", num_steps=2, batch_size=8, real=str(tmp_path / "photos"), real_share=0.5,
            auxiliary_batch_norm=True,
        ),
        evaluation=EvaluationConfig(source=str(few_icons / "test.parquet"), real="", judge=""),
    )  # fmt: skip


def test_students_are_trained_from_a_cache_and_say_their_geometry(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(config, tmp_path / "run", "run", silent)
    for stage in ("prompts", "synthesize", "distill", "evaluate"):
        STAGES[stage](run)
    said = capsys.readouterr().err
    assert "caching 24 images at 27 px: 0.1 MB" in said and str(tmp_path / "run" / "seed-0" / "plain") in said
    assert said.count("caching 3 images at 27 px") == 2  # in color beside the icons, and gray for the method real
    assert "has no image of 22 classes" in said and "real (seed 0) is not trained on any" in said
    assert not list((tmp_path / "run").rglob("cache-*"))
    for method in ("plain", "real"):
        student = load_classifier(tmp_path / "run" / "seed-0" / method / "student")
        assert student.preprocess == replace(run.teacher.preprocess, in_channels=student.in_channels)
        rows = json.loads((tmp_path / "run" / "seed-0" / method / "evaluation.json").read_text())["results"]
        assert {"top1", "agreement"} <= {row["metric"] for row in rows}


def test_the_cache_stays_where_it_is_wanted(config: Config, tmp_path: Path) -> None:
    recipe = replace(config.distillation, keep_cache=True, real_share=0.0, auxiliary_batch_norm=False)
    run = open_run(replace(config, methods=("plain",), distillation=recipe), tmp_path / "run", "run", silent)
    for stage in ("prompts", "synthesize", "distill"):
        STAGES[stage](run)
    assert len(list((tmp_path / "run" / "seed-0" / "plain").glob("cache-27-*.bin"))) == 1


def test_a_real_image_that_does_not_decode_stops_before_the_training(config: Config, tmp_path: Path) -> None:
    run = open_run(replace(config, methods=("real",)), tmp_path / "run", "run", silent)
    path = next((tmp_path / "photos").rglob("2.png"))
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(UserError, match=r"got 1 of 3 that do not \(.*2\.png"):
        STAGES["distill"](run)
    assert not (tmp_path / "run" / "seed-0").exists()


def test_norms_for_synthetic_images_need_real_ones(config: Config, tmp_path: Path) -> None:
    recipe = replace(config.distillation, real_share=0.0)
    with pytest.raises(UserError, match=r"expected a distillation\.real_share above 0 for distillation\.auxiliary"):
        open_run(replace(config, distillation=recipe), tmp_path / "run", "run", silent)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"architecture": "timm:test_vit", "image_size": 50}, "expected a student that takes images .*image_size"),
        ({"architecture": "timm:crossvit_tiny_240", "image_size": 64}, "expected a student that takes images"),
        ({"architecture": "small-resnet-0"}, "expected an architecture like small-resnet-16"),
        ({"initial": "teacher"}, r"expected weights of .*teacher, got: .*of another shape"),
    ],
)  # fmt: skip
def test_a_student_that_cannot_be_trained_is_refused_before_anything_is_drawn(
    config: Config, tmp_path: Path, recipe: dict[str, Any], said: str
) -> None:
    recipe = {"architecture": "small-resnet-8", "real_share": 0.0, "auxiliary_batch_norm": False, **recipe}
    if "initial" in recipe:
        recipe["initial"] = str(tmp_path / "teacher")
    config = replace(config, distillation=replace(config.distillation, **recipe))
    with pytest.raises(UserError, match=said):
        open_run(config, tmp_path / "run", "run", silent)
    assert not (tmp_path / "run").exists()
