"""Training an adapter in miniature: it learns, stops, resumes to the same bytes, and says what is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from prismkd.adaptation import Adaptation, adapt, loop
from prismkd.adaptation.check import IMAGES_PER_CLASS
from prismkd.adaptation.lessons import check_prompts, lessons
from prismkd.classes import ClassName
from prismkd.config import AdaptationConfig, PromptsConfig
from prismkd.errors import UserError
from prismkd.generators.lora import Adapter
from prismkd.prompts import diversified_plan
from prismkd.prompts.senses import unjudged_senses
from tests.adaptation.tiny import plan, synthesizer
from tests.conftest import digest

CONFIG = AdaptationConfig(rank=2, num_steps=6, batch_size=4, learning_rate=0.02, check_every=3, num_check_images=12)


def trained(folder: Path, config: AdaptationConfig = CONFIG, **settings: object) -> Adaptation:
    return adapt(synthesizer(**settings), plan(seed=1), config, folder)  # type: ignore[arg-type]


def bytes_of(folder: Path) -> str:
    return hashlib.sha256(Adapter.of(str(folder)).file.read_bytes()).hexdigest()


@pytest.mark.parametrize("objective", ["guided", "energy"])
def test_it_lowers_the_energy_of_what_is_drawn(objective: str, tmp_path: Path) -> None:
    config = replace(CONFIG, objective=objective, num_steps=20, check_every=10, learning_rate=0.3,
                     proximity_weight=0.1, diversity_weight=0.0, max_diversity_loss=0.9)  # fmt: skip
    name = "pixart-alpha-DPMSolverMultistep"
    outcome = adapt(synthesizer(name), plan(name, 1), config, tmp_path)
    if objective == "guided":  # the energy is that of other images and views at every step
        assert sum(outcome.losses[-5:]) < sum(outcome.losses[:5])
    assert outcome.checks[-1].energy < outcome.checks[0].energy - 0.01
    assert outcome.guided.energy < outcome.checks[0].energy
    assert outcome.chosen_step in (10, 20) and not outcome.stopped
    assert [check.step for check in outcome.checks] == [0, 10, 20]


def test_the_generator_is_as_it_was_and_the_adapter_draws_what_was_checked(tmp_path: Path) -> None:
    drawing = synthesizer()
    before = digest(drawing.generator.pipeline.unet)
    outcome = adapt(drawing, plan(seed=1), CONFIG, tmp_path)
    assert digest(drawing.generator.pipeline.unet) == before
    kept = next(check for check in outcome.checks if check.step == outcome.chosen_step)
    adapted = replace(drawing, guidance=None, adapter=Adapter.of(str(tmp_path)))
    images = adapted.draw_all(check_prompts(plan(seed=1), 12, None))
    labels = torch.tensor([prompt.label for prompt in check_prompts(plan(seed=1), 12, None)])
    energies = -drawing.teacher(images).gather(1, labels[:, None])  # the joint energy, -f_y
    assert kept.energy == pytest.approx(float(energies.mean()), abs=0.02)


@pytest.mark.parametrize("steps_before", [2, 3, 5])
def test_a_kill_at_any_step_leads_to_the_same_bytes(
    steps_before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 1)
    whole = trained(tmp_path / "whole")
    done = 0

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done > steps_before:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(synthesizer(), plan(seed=1), CONFIG, tmp_path / "killed", progress=stop)
    shown = list[int]()
    outcome = adapt(synthesizer(), plan(seed=1), CONFIG, tmp_path / "killed", progress=shown.append)
    assert shown[0] == steps_before and sum(shown) == CONFIG.num_steps
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert replace(outcome, seconds=0) == replace(whole, seconds=0)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_of_no_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path)
    expected = bytes_of(tmp_path)
    adapt(synthesizer(), plan(seed=1), CONFIG, tmp_path, identity="another")
    assert "its settings are others now" in capsys.readouterr().err and bytes_of(tmp_path) == expected
    (tmp_path / loop.CHECKPOINT).write_bytes(b"something else")
    adapt(synthesizer(), plan(seed=1), CONFIG, tmp_path, identity="another")
    assert "checkpoint-damaged" in capsys.readouterr().err and bytes_of(tmp_path) == expected
    state = torch.load(tmp_path / loop.CHECKPOINT, weights_only=True)
    state["matrices"] = {name: tensor[:1] for name, tensor in state["matrices"].items()}
    torch.save(state, tmp_path / loop.CHECKPOINT)
    adapt(synthesizer(), plan(seed=1), CONFIG, tmp_path, identity="another")
    assert "another shape or type" in capsys.readouterr().err and bytes_of(tmp_path) == expected


def test_gradients_are_those_of_the_whole_batch_however_little_fits(tmp_path: Path) -> None:
    config = replace(CONFIG, num_steps=1)
    trained(tmp_path / "whole", config)
    trained(tmp_path / "alone", config, batch_size=1)
    whole, alone = (torch.load(tmp_path / name / loop.CHECKPOINT, weights_only=True) for name in ("whole", "alone"))
    for name, tensor in whole["matrices"].items():
        # Adam's first step is the sign of the gradient, which rounding decides where it is nearly zero
        assert (tensor - alone["matrices"][name]).abs().gt(1e-4).float().mean() < 0.02


def test_a_loss_of_diversity_ends_it_and_what_was_before_is_kept(tmp_path: Path) -> None:
    config = replace(CONFIG, objective="energy", learning_rate=0.5, num_steps=40, check_every=2, proximity_weight=0.0,
                     diversity_weight=0.0, max_diversity_loss=0.0)  # fmt: skip
    outcome = trained(tmp_path, config)
    assert outcome.stopped and outcome.num_steps < 40
    assert outcome.checks[-1].diversity < outcome.checks[0].diversity
    assert outcome.chosen_step < outcome.num_steps


def test_memory_that_runs_out_first_costs_time_then_halves_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes, original = list[int](), loop.replay

    def replay(generator, trajectory, places, learn) -> None:  # type: ignore[no-untyped-def]
        sizes.append(len(trajectory.prompts))
        if len(trajectory.prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        original(generator, trajectory, places, learn)

    monkeypatch.setattr(loop, "replay", replay)
    trained(tmp_path, replace(CONFIG, num_steps=1))
    assert sizes == [4, 4, 2, 2]
    said = capsys.readouterr().err
    assert "checkpointed gradients" in said and "going on with 2" in said


@pytest.mark.parametrize(
    ("config", "guidance", "message"),
    [
        ({"learning_rate": 1e30}, {}, "expected a finite loss of the adapter"),
        ({}, {"log_snr_min": 50.0, "log_snr_max": 60.0}, "expected a denoising step with log"),
        ({}, {"strength": 0.0}, "expected guidance.strength above 0"),
    ],
)
def test_what_cannot_be_learned_is_one_error(
    config: dict[str, float], guidance: dict[str, float], message: str, tmp_path: Path
) -> None:
    drawing = synthesizer()
    assert drawing.guidance is not None
    drawing = replace(drawing, guidance=replace(drawing.guidance, **guidance))
    with pytest.raises(UserError, match=message):
        adapt(drawing, plan(seed=1), replace(CONFIG, **config), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.safetensors"))


# --- the prompts it learns from --------------------------------------------------------------------------------------


def test_half_of_the_prompts_are_guided_and_classes_take_turns() -> None:
    classes = [ClassName("bell"), ClassName("cat"), ClassName("ship")]
    senses = unjudged_senses(classes, {}, 1)
    prompts = PromptsConfig(domains=("photo", "art", "sketch"), id_share=0.2)
    diverse = diversified_plan(classes, senses, [["{}"]] * 3, prompts, 7)
    own = {style.name for style in diverse.styles if style.domain == "photo"}
    batches = list(islice(lessons(diverse, 6, own, 1), 20))
    assert all(sum(prompt.style in own for prompt in batch) == 3 for batch in batches)
    assert all(sorted(prompt.label for prompt in batch) == [0, 0, 1, 1, 2, 2] for batch in batches)
    indices = [prompt.index for batch in batches for prompt in batch]
    assert len(set(indices)) == len(indices)
    pairs = next(lessons(diverse, 6, own, 2))
    assert [prompt.label for prompt in pairs] == [0, 0, 1, 1, 2, 2]
    checked = check_prompts(diverse, 24, own)
    assert [prompt.label for prompt in checked] == [0] * IMAGES_PER_CLASS + [1] * IMAGES_PER_CLASS
    assert all(prompt.style in own for prompt in checked)
    assert not {prompt.index for prompt in checked} & set(indices)
