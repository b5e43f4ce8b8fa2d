"""``run --minutes``: sizes that fit the machine, said beforehand, and kept by the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prismkd.commands import fitting as module
from prismkd.commands.fitting import Speeds, fitting, measure, seconds_of
from prismkd.commands.preview import preview
from prismkd.commands.run import Arguments, _fitted
from prismkd.config import Config, DistillationConfig, GeneratorConfig, SynthesisConfig
from prismkd.config.load import load_config
from prismkd.runs.open import open_run

DEMO = load_config(Path(__file__).parents[2] / "configs" / "demo.toml")


def on(speeds: Speeds):
    """What a run of a configuration takes on such a machine."""
    return lambda config: seconds_of(config, preview(config, 0).cost, 1000, speeds)


FAST = Speeds(unguided=0.045, guided=0.055, step=0.045, classified=0.001)
SLOW = Speeds(unguided=0.2, guided=0.25, step=0.18, classified=0.004)


def test_a_fast_machine_changes_nothing() -> None:
    assert fitting(DEMO, on(FAST), 10) == DEMO


def test_a_slow_machine_gets_fewer_images_and_steps_in_round_numbers_and_fits() -> None:
    found = fitting(DEMO, on(SLOW), 10)
    assert on(SLOW)(DEMO) > 600 > on(SLOW)(found)
    assert found.synthesis.images_per_class in range(5, 50, 5) and found.distillation.num_steps in range(100, 1000, 100)
    assert found == replace(DEMO, synthesis=found.synthesis, distillation=found.distillation)


def test_the_smallest_share_is_a_tenth() -> None:
    found = fitting(DEMO, on(SLOW), 0.01)
    assert (found.synthesis.images_per_class, found.distillation.num_steps) == (5, 100)


def test_every_stage_counts() -> None:
    config = replace(DEMO, methods=("plain",))
    base = on(SLOW)(config)
    assert on(SLOW)(replace(config, seeds=(0, 1))) > 1.9 * base
    more_steps = replace(config, distillation=replace(config.distillation, num_steps=2000))
    assert on(SLOW)(more_steps) - base == pytest.approx(1000 * SLOW.step)
    guided = replace(config, methods=("eda",))
    extra = config.guidance.num_calibration_images * SLOW.unguided + 1200 * (SLOW.guided - SLOW.unguided)
    assert on(SLOW)(guided) - base == pytest.approx(extra)
    assert on(replace(SLOW, num_devices=2))(config) - base == pytest.approx(-600 * SLOW.unguided)


SMALL = Config(
    methods=("plain", "eda"),
    generator=GeneratorConfig(num_inference_steps=4, batch_size=2),
    synthesis=SynthesisConfig(images_per_class=10),
    distillation=DistillationConfig(architecture="small-resnet-4", num_steps=50, batch_size=4),
)


def test_the_machine_is_measured_and_nothing_is_written(tmp_path: Path) -> None:
    stages = list[str]()

    def track(description: str, total: int):
        from prismkd.progress import silent

        stages.append(description)
        return silent(description, total)

    run = open_run(SMALL, tmp_path / "out", "prismkd run", track, claim=False)
    speeds = measure(run)
    assert min(speeds.unguided, speeds.guided, speeds.step, speeds.classified) > 0 and speeds.num_devices == 1
    assert stages == ["measuring this machine"] and list(tmp_path.iterdir()) == []


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
