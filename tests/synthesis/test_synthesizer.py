"""Broken images: drawn again with a derived seed, recorded, and given up in the end."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Ensemble
from prismkd.config import GeneratorConfig, GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance import Calibration, EnergyGuidance, X0Map
from prismkd.prompts.plan import Prompt
from prismkd.synthesis.synthesizer import Synthesizer, check_channels, run_shard


class FakeGenerator:
    """An image is gray noise of its seed; the first ``broken[prompt]`` draws of a prompt are not a number."""

    def __init__(self, broken: Mapping[str, int] | None = None, num_channels: int = 1) -> None:
        self.config, self.batch_size, self.num_channels = GeneratorConfig(batch_size=4), 4, num_channels
        self.device = torch.device("cpu")
        self.broken, self.tries, self.seeds = broken or {}, Counter[str](), list[int]()

    def sample(self, prompts: list[str], seeds: list[int], guidance: object = None) -> Tensor:
        self.seeds += seeds
        self.tries.update(prompts)
        return torch.stack([image(seed) if self.tries[prompt] > self.broken.get(prompt, 0) else NO_IMAGE
                            for prompt, seed in zip(prompts, seeds, strict=True)])  # fmt: skip

    def use_adapter(self, adapter: object) -> None:
        assert adapter is None

    def decode(self, x0: Tensor) -> Tensor:
        return x0


NO_IMAGE = torch.full((1, 8, 8), torch.nan)


def image(seed: int) -> Tensor:
    return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(seed))


TEACHER = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), {"num_classes": 3, "in_channels": 1})


def prompts(count: int = 6) -> list[Prompt]:
    return [Prompt(i, i % 3, "bell", f"a bell {i}", "plain", 100 + i) for i in range(count)]


@pytest.mark.parametrize("num_broken", [0, 1, 2])
def test_a_broken_image_is_drawn_again_from_the_seed_that_its_record_says(num_broken: int) -> None:
    generator, again = (FakeGenerator({"a bell 2": num_broken}) for _ in range(2))
    found = {s.index: s for s in Synthesizer(generator, TEACHER).samples(prompts())}  # type: ignore[arg-type]
    assert sorted(found) == list(range(6))
    for index, sample in found.items():
        tries, seed = sample.metadata["tries"], sample.metadata["seed"]
        assert tries == (1 + num_broken if index == 2 else 1) and (seed == 100 + index) == (tries == 1)
        assert torch.equal(torch.from_numpy(sample.image), image(seed)[0].mul(255).round().byte())
    assert len(set(generator.seeds)) == 6 + num_broken, "no seed is tried twice, nor that of another image"
    drawn(Synthesizer(again, TEACHER), 6)  # type: ignore[arg-type]
    assert again.seeds == generator.seeds, "another process tries the same"


def test_it_is_given_up_after_three_tries_and_the_others_stay(capsys: pytest.CaptureFixture[str]) -> None:
    synthesizer = Synthesizer(FakeGenerator({"a bell 2": 3}), TEACHER)  # type: ignore[arg-type]
    assert drawn(synthesizer, 6) == [0, 1, 3, 4, 5]
    assert "gave up image 2 ('a bell 2') after 3 tries" in capsys.readouterr().err


def test_what_is_counted_comes_per_batch_and_leaves_out_what_was_given_up() -> None:
    counts = list[int]()
    generator = Moody(lambda prompts, seeds: None)
    generator.broken = {"a bell 2": 3}
    list(Synthesizer(generator, TEACHER).samples(prompts(10), counts.append))  # type: ignore[arg-type]
    assert counts == [3, 4, 2]


def test_a_shard_without_one_finite_image_is_an_error_and_not_committed(tmp_path: Path) -> None:
    broken = FakeGenerator({prompt.text: 99 for prompt in prompts()})
    synthesizer = Synthesizer(broken, TEACHER)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected finite images and energies, got none in 6 prompts"):
        run_shard(tmp_path, 0, prompts(), range(6), synthesizer, "hash", lambda count: None)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(("teacher", "generator", "fits"), [(1, 3, True), (3, 1, True), (4, 4, True), (4, 3, False)])
def test_only_grey_and_color_are_converted(teacher: int, generator: int, fits: bool) -> None:
    classifier = Classifier(nn.Identity(), {"num_classes": 3, "in_channels": teacher})
    images = FakeGenerator(num_channels=generator)
    with nullcontext() if fits else pytest.raises(UserError, match="expected a teacher of 3 channels"):
        check_channels(classifier, images)  # type: ignore[arg-type]


class Guided(FakeGenerator):
    """One step of sampling in the middle of the band, edited as the guidance says."""

    def sample(self, prompts: list[str], seeds: list[int], guidance: EnergyGuidance | None = None) -> Tensor:
        images = super().sample(prompts, seeds)
        delta = None if guidance is None else guidance(images, X0Map(1.0, -0.5, 0.0))
        return images if delta is None else (images + delta).clamp(0, 1)


@pytest.mark.parametrize(
    ("usual", "warned"), [(0.1, True), (0.0, False), (99.0, False)], ids=["small", "none", "large"]
)
def test_latents_far_beyond_the_usual_size_are_warned_of_once_with_the_figure(
    usual: float, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The usual size is that of unguided latents; 0 where it was not measured."""
    targets = Calibration([-99.0] * 3, -99.0, 0.0, [1] * 3, latent_rms=usual)
    generator = Guided()
    list(Synthesizer(generator, TEACHER, GuidanceConfig(), targets).samples(prompts()))  # type: ignore[arg-type]
    shown = capsys.readouterr().err
    assert shown.count("guidance sends latents to") == warned
    if warned:
        ratio = float(shown.split("latents to ")[1].split(" times")[0])
        assert 4 < ratio < 15  # of pixels in [0, 1], and an edit of 0.8 of them


class Moody(FakeGenerator):
    """Fails as ``trouble(prompts)`` says; remembers the sizes of the batches that it was asked for."""

    def __init__(self, trouble, batch_size: int = 4) -> None:
        super().__init__()
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
    assert [found[i].metadata["seed"] - 100 == i for i in range(6)] == [True, True, False, True, True, True]


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
        samples = Synthesizer(FakeGenerator(), ensemble).samples(prompts(3), lambda count: None)  # type: ignore[arg-type]
        return [sample.metadata["energy_after"] for sample in samples]

    first, second = judged(1.0), judged(2.0)
    assert first[0] == second[0]  # the second teacher doesn't know class 0
    assert first[1] != second[1] and first[2] != second[2]


def test_provenance_of_every_image() -> None:
    (sample, *_) = Synthesizer(Moody(lambda *_: None), TEACHER).samples(prompts(), lambda count: None)  # type: ignore[arg-type]
    assert {"prompt", "sense", "style", "seed", "energy_before", "energy_after", "teacher_top1", "tries"} <= set(
        sample.metadata
    )
