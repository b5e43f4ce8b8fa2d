"""Where memory runs out: one path halves the batch, remembers it, and the results stay the same."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier, features_of, predict
from prismkd.classifiers.classifier import check_outputs
from prismkd.cli import main
from prismkd.config import DistillationConfig, GuidanceConfig
from prismkd.distillation import TrainingSet, new_student, train
from prismkd.errors import UserError
from prismkd.evaluation.images import judge_images
from prismkd.evaluation.rows import LabeledBatch
from prismkd.memory import BatchSize, in_batches
from prismkd.prompts.plan import Prompt
from prismkd.synthesis.calibrate import measure_calibration
from prismkd.synthesis.survival import reencode
from prismkd.synthesis.synthesizer import Synthesizer
from tests.distillation.worlds import CONFIG, bright_side, halves

ERRORS: dict[str, Callable[[], Exception]] = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "CPU": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "Python": lambda: MemoryError(),
    "the kernel": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    "the loader of libraries": lambda: ImportError("libtorch_cpu.so: failed to map segment from shared object"),
}


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """Each halving collects garbage, for which all imported libraries would be looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Cramped(nn.Module):
    """A network with room for so many images; remembers how many it was shown."""

    def __init__(self, room: int, error: Callable[[], Exception] = ERRORS["CUDA"], side: int = 8) -> None:
        super().__init__()
        self.room, self.error, self.shown = room, error, list[int]()
        self.flatten, self.body = nn.Flatten(), nn.Linear(side * side, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(len(images))
        if len(images) > self.room:
            raise self.error()
        return self.head(self.body(self.flatten(images)))


def classifier(room: int, error: Callable[[], Exception] = ERRORS["CUDA"]) -> tuple[Classifier, Cramped]:
    torch.manual_seed(0)
    network = Cramped(room, error)
    return Classifier(network.eval(), {"num_classes": 3, "in_channels": 1}), network


IMAGES = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_the_batch_is_halved_and_stays_so_and_the_rest_is_done_once(
    error: Callable[[], Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes, tried = BatchSize(8), list[slice]()

    def do(batch: slice) -> int:
        tried.append(batch)
        if batch.stop - batch.start > 3:
            raise error()
        return batch.stop

    assert [stop for _, stop in in_batches(7, sizes, do, "buy more")] == [3, 6, 7]
    assert [(batch.start, batch.stop) for batch in tried] == [(0, 7), (0, 3), (3, 6), (6, 7)] and sizes.batch_size == 3
    assert capsys.readouterr().err.count("memory ran out with 7 images together; going on with 3") == 1


def test_no_room_for_one_is_a_line_and_another_error_passes() -> None:
    with pytest.raises(UserError, match="expected memory for one image at a time, got none; buy more"):
        list(in_batches(4, BatchSize(4), lambda batch: (_ for _ in ()).throw(MemoryError()), "buy more"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches(4, BatchSize(4), lambda batch: (_ for _ in ()).throw(RuntimeError("shapes differ")), ""))


@pytest.mark.parametrize("look", [predict, features_of])
def test_what_a_network_is_shown_is_halved_remembered_and_gives_the_same(look: Callable[..., Tensor]) -> None:
    cramped, network = classifier(4)
    assert torch.allclose(look(cramped, IMAGES), look(classifier(99)[0], IMAGES), atol=1e-6)
    assert network.shown == [10, 5, 2, 2, 2, 2, 2]
    network.shown.clear()
    look(cramped, IMAGES[:4])
    assert network.shown == [2, 2]
    with pytest.raises(UserError, match=r"memory for one image at a time, got none; free memory, use a machine"):
        look(classifier(0)[0], IMAGES)


def test_a_network_without_room_is_not_called_unfit() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        check_outputs(classifier(0)[0], "judge")


def test_images_are_judged_the_same_in_a_small_memory() -> None:
    batch = LabeledBatch(IMAGES, torch.arange(10) % 3)
    cramped, wide = (judge_images([batch], classifier(room)[0], classifier(room)[0]) for room in (3, 99))
    assert np.allclose(cramped.features, wide.features, atol=1e-6)
    assert cramped.judge_hits is not None and wide.judge_hits is not None
    assert (cramped.judge_hits == wide.judge_hits).all() and (cramped.teacher_hits == wide.teacher_hits).all()


class Noise:
    """A generator of noise, with room for so many images to encode."""

    def __init__(self, room: int = 99) -> None:
        self.batch_size, self.room, self.device, self.num_channels = 8, room, torch.device("cpu"), 1

    def sample(self, prompts: list[str], seeds: list[int], guidance: object = None) -> Tensor:
        return torch.stack([torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def use_adapter(self, adapter: object) -> None:
        assert adapter is None

    def decode(self, x0: Tensor) -> Tensor:
        return x0

    def reconstruct(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return images / 2


def test_a_calibration_is_the_same_where_the_teacher_has_little_room() -> None:
    prompts = [Prompt(i, i % 3, "bell", "a bell", "plain", 100 + i) for i in range(12)]
    config = GuidanceConfig(num_calibration_images=12)
    found = []
    for room in (3, 99):
        generator, teacher = Noise(), classifier(room)[0]
        synthesizer = Synthesizer(generator, teacher, config)  # type: ignore[arg-type]
        found.append(measure_calibration(prompts, synthesizer, config, lambda count: None))
        assert room == 99 or generator.batch_size <= 3
    (cramped, energies), (wide, wide_energies) = found
    assert energies == pytest.approx(wide_energies, abs=1e-5)
    assert cramped.energy_target == pytest.approx(wide.energy_target, abs=1e-5)


def test_images_are_encoded_again_in_what_room_there_is() -> None:
    generator = Noise(room=2)
    assert torch.equal(reencode(generator, IMAGES), IMAGES / 2) and generator.batch_size == 2  # type: ignore[arg-type]


class NoRoom(nn.Module):
    """Has room for so many images."""

    def __init__(self, network: nn.Module, room: int) -> None:
        super().__init__()
        self.network, self.room = network, room

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.network(images)


RECIPE = replace(CONFIG, num_steps=2, batch_size=8)


def trained(recipe: DistillationConfig, teacher_room: int, student_room: int = 99) -> dict[str, Tensor]:
    torch.manual_seed(0)
    teacher, images = bright_side(), halves(16)
    crowded = Classifier(NoRoom(teacher.network, teacher_room).eval(), teacher.config)
    student = new_student(recipe, 2, images.shape[1], 0)
    train(NoRoom(student, student_room), crowded, TrainingSet(images), recipe, 0)
    return student.state_dict()


def test_a_step_that_does_not_fit_names_the_setting() -> None:
    with pytest.raises(UserError, match=r"expected memory for a step on 8 images, got none; lower distillation\.batch"):
        trained(RECIPE, 99, student_room=4)


def test_a_teacher_with_little_room_teaches_the_same() -> None:
    for recipe in (RECIPE, replace(RECIPE, stored_logits=True)):
        cramped, wide = (trained(recipe, room) for room in (3, 99))
        assert all(torch.allclose(cramped[name], wide[name], atol=1e-4) for name in wide)


def test_any_other_want_of_memory_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in ERRORS.values():
        monkeypatch.setattr("prismkd.cli._dispatch", lambda words, error=error: (_ for _ in ()).throw(error()))
        assert main(["run"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: expected enough memory, got: ") and said.count("\n") == 1
