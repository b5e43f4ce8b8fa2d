"""``run --minutes``: sizes that fit the machine, said beforehand, and kept by the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prismkd.commands import fitting as module
from prismkd.commands.estimate import DISTILLATION, IMAGES, Estimate, Measured, StageCost
from prismkd.commands.fitting import fitting, fitting_threads, seconds_of, seconds_on
from prismkd.commands.run import Arguments, _fitted
from prismkd.config import Config, DistillationConfig, GeneratorConfig, SynthesisConfig
from prismkd.config.load import load_config
from prismkd.progress import silent
from prismkd.runs.open import open_run
from prismkd.runs.run import Run

LOADED = load_config(Path(__file__).parents[2] / "configs" / "demo.toml")
DEMO = replace(LOADED, distillation=replace(LOADED.distillation, num_steps=1000))  # what its stages below are of


def on(speed: float):
    """What a run takes on a machine of such a speed, which draws the demo in 100 s and trains its students in 100 s."""
    stages = [StageCost("calibration", "", 192, "images", 20 / 192 / speed),
              StageCost(IMAGES, "plain", 1200, "images", 50 / 1200 / speed),
              StageCost(IMAGES, "prism", 1200, "images", 50 / 1200 / speed),
              StageCost(DISTILLATION, "", 2000, "steps", 100 / 2000 / speed)]  # fmt: skip
    return lambda config: seconds_of(Estimate(stages, {}, 1.0, 1, 0.0), DEMO, config)


def test_a_fast_machine_changes_nothing() -> None:
    assert fitting(DEMO, on(1.0), 10) == DEMO


def test_a_slow_machine_gets_fewer_images_and_steps_in_round_numbers_and_fits() -> None:
    found = fitting(DEMO, on(0.25), 10)
    assert on(0.25)(DEMO) > 600 > on(0.25)(found)
    assert found.synthesis.images_per_class in range(5, 50, 5) and found.distillation.num_steps in range(100, 1000, 100)
    assert found == replace(DEMO, synthesis=found.synthesis, distillation=found.distillation)


def test_the_smallest_share_is_a_tenth() -> None:
    found = fitting(DEMO, on(0.25), 0.01)
    assert (found.synthesis.images_per_class, found.distillation.num_steps) == (5, 100)


def test_images_and_steps_scale_and_what_prepares_them_does_not() -> None:
    half_the_steps = replace(DEMO, distillation=replace(DEMO.distillation, num_steps=500))
    assert on(1.0)(DEMO) - on(1.0)(half_the_steps) == pytest.approx(50)
    half_the_images = replace(DEMO, synthesis=replace(DEMO.synthesis, images_per_class=25))
    assert on(1.0)(DEMO) - on(1.0)(half_the_images) == pytest.approx(50)


SMALL = Config(
    classes="pictograms-24",
    methods=("plain", "eda"),
    generator=GeneratorConfig(num_inference_steps=4, batch_size=2),
    synthesis=SynthesisConfig(images_per_class=10),
    distillation=DistillationConfig(architecture="small-resnet-4", num_steps=50, batch_size=4),
)


@pytest.mark.parametrize(("alone", "expected"), [(0.5, 1), (0.9, 0), (1.5, 0)])
def test_one_thread_is_taken_only_where_it_is_clearly_faster(
    alone: float, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(run: Run, planned: int, image_shape: tuple[int, ...]) -> Measured:
        assert image_shape == (3, 64, 64), "as the generator draws"
        return Measured(alone if torch.get_num_threads() == 1 else 1.0, 1)

    monkeypatch.setattr(module, "measure_steps", measured)
    run, before = open_run(SMALL, tmp_path / "out", "prismkd run", silent, claim=False), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert fitting_threads(run) == expected
        assert torch.get_num_threads() == (expected or 2)
        assert fitting_threads(replace(run, config=replace(SMALL, num_threads=2))) == 2
    finally:
        torch.set_num_threads(before)


def test_the_machine_is_measured_and_nothing_is_written(tmp_path: Path) -> None:
    run = open_run(SMALL, tmp_path / "out", "prismkd run", silent, claim=False)
    seconds = seconds_on(run)
    longer = replace(SMALL, distillation=replace(SMALL.distillation, num_steps=500))
    assert 0 < seconds(SMALL) < seconds(longer)
    assert list(tmp_path.iterdir()) == []


def test_the_sizes_are_said_and_a_run_that_is_there_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "seconds_on", lambda run: lambda config: 12.0 * config.synthesis.images_per_class)
    out = tmp_path / "out"
    arguments = Arguments(out=str(out), settings=SMALL, minutes=1.0)
    found = _fitted(arguments, 1.0)
    assert (found.synthesis.images_per_class, found.distillation.num_steps) == (4, 20)
    said = capsys.readouterr().err
    assert "would take about 2 min here" in said and "about 48 s" in said
    assert "4 images per class instead of 10, 20 training steps instead of 50" in said

    open_run(found, out, "prismkd run --minutes 1", lambda description, total: None)  # type: ignore[arg-type,return-value]
    monkeypatch.setattr(module, "seconds_on", lambda run: pytest.fail("a run that is there is not measured"))
    assert _fitted(arguments, 1.0) == found
