"""Broken images: drawn again with a derived seed, recorded, and given up in the end."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Ensemble
from prismkd.config import GeneratorConfig, GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance import Calibration, EnergyGuidance
from prismkd.prompts.plan import Prompt, image_seed
from prismkd.synthesis.synthesizer import Synthesizer, _warn_if_out_of_range, check_channels, run_shard


class FakeGenerator:
    """Grey images; not a number where ``broken(seed)``."""

    def __init__(self, broken) -> None:
        self.config, self.batch_size = GeneratorConfig(batch_size=4), 4
        self.device = torch.device("cpu")
        self.broken = broken

    def sample(self, prompts: list[str], seeds: list[int], guidance: object = None) -> Tensor:
        return torch.stack([torch.full((1, 8, 8), float("nan") if self.broken(s) else 0.5) for s in seeds])

    def decode(self, x0: Tensor) -> Tensor:
        return x0


TEACHER = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), {"num_classes": 3, "in_channels": 1})


def prompts(count: int = 6) -> list[Prompt]:
    return [Prompt(i, i % 3, "bell", f"a bell {i}", "plain", 100 + i) for i in range(count)]


def test_a_broken_image_is_drawn_again_with_a_derived_seed() -> None:
    synthesizer = Synthesizer(FakeGenerator(lambda seed: seed == 102), TEACHER)  # type: ignore[arg-type]
    samples = {sample.index: sample for sample in synthesizer.samples(prompts(), lambda count: None)}
    assert sorted(samples) == list(range(6))
    assert samples[2].metadata["tries"] == 2
    assert samples[2].metadata["seed"] == image_seed(102, 2)
    assert samples[1].metadata["tries"] == 1 and samples[1].metadata["seed"] == 101


def test_it_is_given_up_after_three_tries_and_the_others_stay(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {102, image_seed(102, 2), image_seed(102, 3)}
    synthesizer = Synthesizer(FakeGenerator(bad.__contains__), TEACHER)  # type: ignore[arg-type]
    samples = [sample.index for sample in synthesizer.samples(prompts(), lambda count: None)]
    assert sorted(samples) == [0, 1, 3, 4, 5]
    assert "gave up image 2 ('a bell 2') after 3 tries" in capsys.readouterr().err


def test_a_shard_without_one_finite_image_is_an_error_and_not_committed(tmp_path: Path) -> None:
    synthesizer = Synthesizer(FakeGenerator(lambda seed: True), TEACHER)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected finite images and energies, got none in 6 prompts"):
        run_shard(tmp_path, 0, prompts(), range(6), synthesizer, "hash", lambda count: None)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(("teacher", "generator", "fits"), [(1, 3, True), (3, 1, True), (4, 4, True), (4, 3, False)])
def test_only_grey_and_color_are_converted(teacher: int, generator: int, fits: bool) -> None:
    classifier = Classifier(nn.Identity(), {"num_classes": 3, "in_channels": teacher})
    images = SimpleNamespace(num_channels=generator)
    with nullcontext() if fits else pytest.raises(UserError, match="expected a teacher of 3 channels"):
        check_channels(classifier, images)  # type: ignore[arg-type]


def test_latents_out_of_range_are_warned_of_with_the_figure(capsys: pytest.CaptureFixture[str]) -> None:
    calibration = Calibration([0.0] * 3, 0.0, 0.0, [1] * 3, latent_rms=0.5)
    edit = EnergyGuidance(TEACHER, lambda x: x, torch.zeros(1, dtype=torch.long), calibration, GuidanceConfig())
    assert not _warn_if_out_of_range(edit)
    edit.latent_ratio = torch.tensor([2.34])
    assert _warn_if_out_of_range(edit)
    assert "2.3 times" in capsys.readouterr().err


class Moody(FakeGenerator):
    """Fails as ``trouble(prompts)`` says; remembers the sizes of the batches that it was asked for."""

    def __init__(self, trouble, batch_size: int = 4) -> None:
        super().__init__(lambda seed: False)
        self.config, self.batch_size = GeneratorConfig(batch_size=batch_size), batch_size
        self.trouble, self.sizes = trouble, list[int]()

    def sample(self, prompts: list[str], seeds: list[int], guidance: object = None) -> Tensor:
        self.sizes.append(len(prompts))
        self.trouble(prompts, seeds)
        return super().sample(prompts, seeds, guidance)


def out_of_memory(limit: int):
    def trouble(prompts: list[str], seeds: list[int]) -> None:
        if len(prompts) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    return trouble


def drawn(synthesizer: Synthesizer, count: int = 10) -> list[int]:
    return sorted(sample.index for sample in synthesizer.samples(prompts(count), lambda count: None))


def test_where_memory_runs_out_the_batch_is_halved_and_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    generator = Moody(out_of_memory(2), batch_size=8)
    synthesizer = Synthesizer(generator, TEACHER)  # type: ignore[arg-type]
    assert drawn(synthesizer) == list(range(10))
    assert generator.sizes == [8, 4, 2, 2, 2, 2, 2]
    generator.sizes.clear()
    assert drawn(synthesizer, 4) == [0, 1, 2, 3] and generator.sizes == [2, 2]
    assert "memory ran out with 8 images together; going on with 4" in capsys.readouterr().err


def test_not_enough_memory_for_one_image_is_bad_input() -> None:
    with pytest.raises(
        UserError, match=r"expected memory for one image at a time, got none; lower generator.image_size"
    ):
        drawn(Synthesizer(Moody(out_of_memory(0)), TEACHER))  # type: ignore[arg-type]


def test_one_poisonous_image_is_redrawn_with_another_seed_and_the_others_stay() -> None:
    def trouble(prompts: list[str], seeds: list[int]) -> None:
        if 102 in seeds:
            raise ValueError("cursed seed")

    found = {s.index: s for s in Synthesizer(Moody(trouble), TEACHER).samples(prompts(), lambda count: None)}  # type: ignore[arg-type]
    assert sorted(found) == list(range(6))
    assert [found[i].metadata["tries"] for i in range(6)] == [1, 1, 2, 1, 1, 1]
    assert found[2].metadata["seed"] == image_seed(102, 2) and found[1].metadata["seed"] == 101


def test_a_poisonous_prompt_is_given_up_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def trouble(prompts: list[str], seeds: list[int]) -> None:
        if "a bell 2" in prompts:
            raise ValueError("cursed prompt")

    assert drawn(Synthesizer(Moody(trouble), TEACHER), 6) == [0, 1, 3, 4, 5]  # type: ignore[arg-type]
    assert "gave up image 2 ('a bell 2') after 3 tries: ValueError: cursed prompt" in capsys.readouterr().err


def test_an_error_that_is_not_about_one_image_is_the_shards(tmp_path: Path) -> None:
    def trouble(prompts: list[str], seeds: list[int]) -> None:
        raise RuntimeError("device-side assert")

    generator = Moody(trouble)
    with pytest.raises(RuntimeError, match="device-side assert"):
        drawn(Synthesizer(generator, TEACHER))  # type: ignore[arg-type]
    assert len(generator.sizes) == 1 + 3 * 3, "three images are tried alone, then it is clear"


def test_of_several_teachers_those_judge_an_image_that_know_its_class() -> None:
    def judged(value: float) -> list[float]:
        second = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        nn.init.constant_(second[1].weight, value)
        members = [TEACHER, Classifier(second, {"num_classes": 2, "in_channels": 1})]
        ensemble = Ensemble(members, [[0, 1, -1], [1, 2]], 3)
        samples = Synthesizer(FakeGenerator(lambda seed: False), ensemble).samples(prompts(3), lambda count: None)  # type: ignore[arg-type]
        return [sample.metadata["energy_after"] for sample in samples]

    first, second = judged(1.0), judged(2.0)
    assert first[0] == second[0]  # the second teacher doesn't know class 0
    assert first[1] != second[1] and first[2] != second[2]


def test_provenance_of_every_image() -> None:
    (sample, *_) = Synthesizer(Moody(lambda *_: None), TEACHER).samples(prompts(), lambda count: None)  # type: ignore[arg-type]
    assert {"prompt", "sense", "style", "seed", "energy_before", "energy_after", "teacher_top1", "tries"} <= set(
        sample.metadata
    )
