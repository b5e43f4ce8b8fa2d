"""The seeds that work are the seeds that are accepted: 0 to 2^63 - 1 go all the way, others are refused first."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import prismkd
from prismkd.classifiers import Classifier
from prismkd.cli import main
from prismkd.config.seeds import MAX_SEED
from prismkd.distillation import open_images, train
from prismkd.distillation.training_set import TrainingSet
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.metrics import bootstrap_interval, kernel_distance
from prismkd.metrics.paired import paired_interval
from prismkd.runs.session import Session
from prismkd.shards import Sample, write_shard

DATE = 20261126121500  # a seed as people write it
SEEDS = [DATE, MAX_SEED]
WRONG: list[Any] = [-1, 2**63, 2**70, 0.5, "0", True, None]
TINY = """
classes = "pictograms-24"
seeds = [20261126121500, 9223372036854775807]
methods = ["plain", "real"]
[prompts]
num_probes = 0
num_content_probes = 0
[generator]
num_inference_steps = 2
[synthesis]
images_per_class = 1
shard_size = 24
[distillation]
architecture = "small-resnet-4"
num_steps = 2
batch_size = 8
mixup = 0.2
cutmix = 1.0
rand_augment = 9
[evaluation]
judge = ""
"""


def test_a_run_of_large_seeds_goes_all_the_way_to_the_report_and_out_of_the_run(
    tmp_path: Path, few_icons: Path
) -> None:
    icons = f'source = "{few_icons / "test.parquet"}"\nreal = "{few_icons / "real.parquet"}"\n'
    (tmp_path / "tiny.toml").write_text(TINY + icons)
    out = tmp_path / "out"
    assert main(["run", "--config", str(tmp_path / "tiny.toml"), "--out", str(out)]) == 0
    rows = json.loads((out / "metrics.json").read_text())["results"]
    assert {row["seed"] for row in rows if row["method"] == "plain"} == set(SEEDS)
    page = (out / "report.html").read_text()
    assert f"{DATE}, {MAX_SEED}" in page and "data:image/" in page
    chosen = ["--out", str(out), "--method", "plain", "--seed", str(MAX_SEED), "--dest"]
    assert main(["export", *chosen, str(tmp_path / "student"), "--to", "safetensors"]) == 0
    assert main(["export", *chosen, str(tmp_path / "images"), "--to", "hf"]) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_session_draws_and_distils_with_a_large_seed(seed: int, tmp_path: Path) -> None:
    config = prismkd.Config(
        classes="pictograms-24",
        generator=prismkd.GeneratorConfig(num_inference_steps=2),
        distillation=prismkd.DistillationConfig(
            architecture="small-resnet-4", num_steps=2, batch_size=4, image_size=32, augmentation="photos",
            rand_augment=5, mixup=0.2, feature_weight=0.1,
        ),
    )  # fmt: skip
    session = Session(config)
    images, labels = session.draw("plain", 4, seed)
    assert not torch.equal(images, session.draw("plain", 4, 0)[0])
    session.distill(images, labels, seed)
    rows = session.plan("plain", seed)
    assert all(0 <= rows[index].seed <= MAX_SEED for index in (0, 10**12))


def test_worker_processes_that_decode_take_a_large_seed(tmp_path: Path, teacher: Classifier) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32), np.uint8)
    write_shard(tmp_path, 0, [Sample(i, image, i, {}) for i, image in enumerate(pixels)], "plan")
    images, labels = open_images(tmp_path, 0, num_workers=1)
    recipe = prismkd.DistillationConfig(architecture="small-resnet-4", num_steps=2, batch_size=4)
    session = Session(prismkd.Config(classes="pictograms-24", distillation=recipe))
    student = session.new_student(1, MAX_SEED, 32)
    log = train(student, teacher, TrainingSet(images, labels), recipe, MAX_SEED)
    assert np.isfinite(log.to_dict()["train_top1"])


@pytest.mark.parametrize("seed", [*SEEDS, 2**32, 2**32 - 1])
def test_figures_take_any_seed(seed: int) -> None:
    values = np.arange(20) % 3 == 0
    low, high = bootstrap_interval(values.astype(float), seed=seed)
    assert low < values.mean() < high
    features = np.random.default_rng(0).normal(size=(30, 4))
    assert np.isfinite(kernel_distance(features, features + 1, num_subsets=2, seed=seed))
    assert paired_interval(np.tile(values.astype(np.int8), (2, 1)), seed=seed)[0] >= 0


def test_the_kernel_distance_has_torch_fidelitys_draws_for_its_seeds() -> None:
    features = np.random.default_rng(0).normal(size=(30, 4))
    one, other = (kernel_distance(features, features[:20] + 1, num_subsets=2, seed=seed) for seed in (5, 5 + 2**32))
    assert one != other


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_every_way_in_refuses_a_seed_that_there_is_not(
    wrong: Any, teacher: Classifier, generator: TextToImage, tmp_path: Path
) -> None:
    images, labels = torch.zeros(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    session, values = Session(prismkd.Config()), np.arange(4.0)
    guidance = prismkd.GuidanceConfig(strength=0)
    ways: dict[str, Callable[[], object]] = {
        "run": lambda: prismkd.run(replace(prismkd.Config(), seeds=(wrong,)), tmp_path / "run"),
        "EDA": lambda: prismkd.EDA(generator.pipeline, teacher, guidance=guidance)(["a"], [0], [wrong]),
        "plan": lambda: prismkd.plan(["crane", "bell"], seed=wrong),
        "distill": lambda: prismkd.distill(teacher, images, labels, student="small-resnet-4", seed=wrong),
        "sample": lambda: generator.sample(["a"], [wrong]),
        "Session.plan": lambda: session.plan("plain", wrong),
        "Session.draw": lambda: session.draw("plain", 1, wrong),
        "Session.distill": lambda: session.distill(images, labels, wrong),
        "Session.evaluate": lambda: session.evaluate(teacher, wrong),
        "bootstrap": lambda: bootstrap_interval(values, seed=wrong),
        "paired": lambda: paired_interval(values[None], seed=wrong),
        "kernel": lambda: kernel_distance(values[:, None], values[:, None], seed=wrong),
    }
    assert {name: _refusal(way) for name, way in ways.items()} == dict.fromkeys(ways, "one line")
    assert not (tmp_path / "run").exists()


def _refusal(way: Callable[[], object]) -> str:
    """How a seed was refused."""
    try:
        way()
    except UserError as error:
        is_line = str(error).startswith("expected ") and "seed" in str(error) and "\n" not in str(error)
        return "one line" if is_line else str(error)
    return "not at all"


def test_seeds_of_other_libraries_are_whole_numbers_too(generator: TextToImage) -> None:
    given: list[Any] = [np.int64(7), torch.tensor(7), 7]
    drawn: list[Tensor] = [generator.sample(["an icon of a bell"], [seed]) for seed in given]
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[2])


@pytest.mark.parametrize("wrong", ["-1", "9223372036854775808", "1.5", "one"])
@pytest.mark.parametrize("command", ["run", "export"])
def test_the_command_line_refuses_them_in_one_line(
    wrong: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"run": ["--seeds", wrong], "export": ["--to", "safetensors", "--dest", "x", "--seed", wrong]}
    assert main([command, "--out", str(tmp_path / "out"), *flags[command]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "seed" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["-1", "9223372036854775808", "1.5", '"one"'])
def test_a_file_of_settings_refuses_them_in_one_line(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.toml").write_text(f"seeds = [{wrong}]\n")
    assert main(["run", "--config", str(tmp_path / "x.toml"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "seeds" in error and not (tmp_path / "out").exists()
