"""The training loop: it learns, equals a loop of 20 lines, and a resumed run equals the uninterrupted one."""

import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import SmallResNet
from prismkd.classifiers.precision import fast_matmul
from prismkd.classifiers.views import random_views
from prismkd.config import DistillationConfig
from prismkd.config.seeds import derive
from prismkd.distillation import CHECKPOINT_EVERY, TrainingSet, new_student, train
from prismkd.distillation.losses import feature_loss
from prismkd.distillation.state import State, StudentWithProjection, memory_format_of
from prismkd.errors import UserError
from tests.distillation.worlds import ALL, CONFIG, Breaking, BrightSide, bright_side, halves, ignore, mixture, sides
from tests.files.killing import contents, small_files


class InterruptionError(Exception):
    pass


class AlwaysFirst(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.new_tensor([[9.0, -9.0]]).expand(len(images), 2)


def reference(student: nn.Module, teacher: Classifier, images: Tensor, config: DistillationConfig, seed: int) -> None:
    """The loop in a few lines, with the batches and views that ours draws."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    layout = memory_format_of(student, images.device)
    student.train().to(memory_format=layout)
    for step in range(config.num_steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / config.num_steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.num_steps // 20)) * cosine
        generator = torch.Generator().manual_seed(derive(seed, "batch", step))
        index = torch.randint(len(images), (config.batch_size,), generator=generator)
        views = random_views(images[index], generator=generator).contiguous(memory_format=layout)
        with fast_matmul(views.device):
            with torch.no_grad():
                wanted = teacher(views)
            found = student(views)
        t = config.temperature
        logs = [F.log_softmax(logits.float() / t, dim=1) for logits in (found, wanted)]
        loss = t**2 * F.kl_div(*logs, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(config.ema_decay, (step + 1) / (step + 10))
        for name, tensor in student.state_dict().items():
            if tensor.is_floating_point():
                average[name].lerp_(tensor, 1 - decay)
            else:
                average[name].copy_(tensor)
    student.load_state_dict(average)


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_with_default_settings_a_student_is_what_it_always_was(tmp_path: Path, as_bytes: bool) -> None:
    config = replace(CONFIG, num_steps=30)
    expected, student = new_student(config, 2, 1, seed=3), new_student(config, 2, 1, seed=3)
    images = halves().numpy().astype("float32") / 255
    reference(expected, bright_side(), torch.from_numpy(images), config, 3)
    given = halves() if as_bytes else torch.from_numpy(images)
    train(student, bright_side(), given, config, 3, tmp_path / "c.pt", ignore)
    assert_equal(expected, student)


def test_the_student_learns_the_teacher(tmp_path: Path) -> None:
    student = new_student(CONFIG, 2, 1, seed=0)
    log = train(student, bright_side(), TrainingSet(halves(), sides()), CONFIG, 0, tmp_path / "c.pt", ignore)
    with torch.no_grad():
        assert (student(halves().float() / 255).argmax(1) == sides()).float().mean() > 0.95
    assert log.warnings() == []
    assert log.quarters[3] < log.quarters[0]


class Told(Classifier):
    """Remembers what it was told of the images; one list for all copies of it."""

    told: ClassVar[list[Tensor | None]] = []

    def forward(self, images: Tensor, labels: Tensor | None = None, *, cropped: bool = False) -> Tensor:
        self.told.append(labels)
        return super().forward(images, cropped=cropped)


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_any_whole_number_is_a_seed(tmp_path: Path, seed: int) -> None:
    """Initial weights, batches, views, mixtures and augmentation: each generator gets a seed that it takes."""
    config = replace(ALL, num_steps=2)
    log = train(new_student(config, 2, 1, seed), bright_side(), mixture(), config, seed, tmp_path / "c.pt", ignore)
    assert log.rows


@pytest.mark.parametrize("stored", [False, True], ids=["online", "stored"])
def test_the_teacher_is_told_what_the_images_show(tmp_path: Path, stored: bool) -> None:
    teacher = Told(BrightSide(), {"num_classes": 2, "in_channels": 1}).requires_grad_(False)
    images, labels = halves(), sides()

    def told(data: TrainingSet, **settings: object) -> list[Tensor | None]:
        Told.told.clear()
        config = replace(CONFIG, num_steps=2, stored_logits=stored, **settings)  # type: ignore[arg-type]
        train(new_student(config, 2, 1, seed=0), teacher, data, config, 0, tmp_path / "c.pt", ignore)
        (tmp_path / "c.pt").unlink()
        return list(Told.told)

    assert all(found is None for found in told(TrainingSet(images)))
    found = told(TrainingSet(images, labels))
    if stored:
        assert len(found) == 1 and found[0] is not None and torch.equal(found[0], labels)
        return
    generator = torch.Generator().manual_seed(derive(0, "batch", 0))
    first = torch.randint(len(images), (CONFIG.batch_size,), generator=generator)
    assert len(found) == 3 and found[0] is not None and torch.equal(found[0], F.one_hot(labels[first], 2).float())
    assert found[2] is not None and torch.equal(found[2], labels)  # at the end, of all its training images
    (mixed, *_) = told(TrainingSet(images, labels), mixup=1.0)
    assert mixed is not None and torch.allclose(mixed.sum(1), torch.ones(CONFIG.batch_size))
    assert not torch.equal(mixed, mixed.round())


def test_labels_alone_need_no_teacher(tmp_path: Path) -> None:
    config = replace(CONFIG, hard_label_weight=1.0)
    images = halves().transpose(2, 3)  # top and bottom: views are flipped, but not upside down
    student = new_student(config, 2, 1, seed=0)
    train(student, None, TrainingSet(images, sides()), config, 0, tmp_path / "c.pt", ignore)
    with torch.no_grad():
        assert (student(images.float() / 255).argmax(1) == sides()).float().mean() > 0.95


@pytest.mark.parametrize(("by_agreement", "learned"), [(False, torch.zeros(64)), (True, sides())])
def test_weighted_by_agreement_labels_speak_where_the_teacher_errs(by_agreement: bool, learned: Tensor) -> None:
    config, images = replace(CONFIG, weight_by_agreement=by_agreement), halves().transpose(2, 3)
    teacher = Classifier(AlwaysFirst(), {"num_classes": 2, "in_channels": 1})
    student = new_student(config, 2, 1, seed=0)
    train(student, teacher, TrainingSet(images, sides()), config, 0)
    with torch.no_grad():
        assert (student(images.float() / 255).argmax(1) == learned).float().mean() > 0.95


@pytest.mark.parametrize("stored", [False, True], ids=["online", "stored"])
def test_with_all_recipes_on_resumed_equals_uninterrupted(tmp_path: Path, stored: bool) -> None:
    config = replace(ALL, stored_logits=stored, num_steps=CHECKPOINT_EVERY + 20)
    whole, broken = new_student(config, 2, 1, seed=0), new_student(config, 2, 1, seed=0)
    first = train(whole, bright_side(), mixture(), config, 0, tmp_path / "whole.pt", ignore)
    steps = iter(range(CHECKPOINT_EVERY + 5))

    def stop(count: int) -> None:
        if next(steps, None) is None:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train(broken, bright_side(), mixture(), config, 0, tmp_path / "broken.pt", stop)
    torch.rand(3)  # whatever else the interrupted process drew
    resumed = new_student(config, 2, 1, seed=99)
    second = train(resumed, bright_side(), mixture(), config, 0, tmp_path / "broken.pt", ignore)
    assert_equal(whole, resumed)
    assert first == second
    assert torch.load(tmp_path / "whole.pt", weights_only=True)["step"] == config.num_steps


def test_few_channels_are_not_kept_last_where_that_overwrites_memory() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    narrow, wide = SmallResNet(2, 4), SmallResNet(2, 16)  # shortcuts of 1 x 1 convolutions with stride 2
    assert memory_format_of(narrow, cpu) == torch.contiguous_format
    assert memory_format_of(wide, cpu) == memory_format_of(narrow, cuda) == torch.channels_last


def test_dropout_is_a_function_of_the_step(tmp_path: Path) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1024, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(F.dropout(images.flatten(1), 0.5, self.training))

    students, config = (Dropping(), Dropping()), replace(CONFIG, num_steps=20)
    students[1].load_state_dict(students[0].state_dict())
    for student in students:
        train(student, bright_side(), halves(), config, 0, tmp_path / "c.pt", ignore)
        (tmp_path / "c.pt").unlink()
        torch.rand(1)
    assert_equal(*students)


def test_no_images_and_recipes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def attempt(data: TrainingSet | Tensor, teacher: Classifier | None = None, **settings: object) -> None:
        config = replace(CONFIG, **settings)  # type: ignore[arg-type]
        train(new_student(config, 2, 1, seed=0), teacher, data, config, 0, tmp_path / "c.pt", ignore)

    with pytest.raises(UserError, match="got none; run `prismkd synthesize`"):
        attempt(halves()[:0], bright_side())
    with pytest.raises(UserError, match="expected labels"):
        attempt(halves(), bright_side(), hard_label_weight=0.5)
    with pytest.raises(UserError, match="expected a teacher"):
        attempt(TrainingSet(halves(), sides()), hard_label_weight=0.5)
    with pytest.raises(UserError, match="a multiple of 2"):
        attempt(halves(), bright_side(), mixup=0.2, batch_size=15)
    with pytest.raises(UserError, match="shape"):
        TrainingSet(halves(), sides(), (torch.zeros(3, 3, 32, 32), sides(3)), real_share=0.5)


def test_a_loss_that_is_not_finite_names_its_step_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"at step {CHECKPOINT_EVERY + 7}; the checkpoint of step {CHECKPOINT_EVERY}"):
        train(Breaking(CHECKPOINT_EVERY + 7), bright_side(), halves(), CONFIG, 0, tmp_path / "c.pt", ignore)
    kept = torch.load(tmp_path / "c.pt", weights_only=True)
    assert kept["step"] == CHECKPOINT_EVERY
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())


def test_the_feature_loss_teaches_the_teacher_s_features(tmp_path: Path) -> None:
    """1 is what zero would get, and the features' mean gets about 0.3."""
    config = replace(CONFIG, feature_weight=5.0, num_steps=150)
    train(new_student(config, 2, 1, seed=0), bright_side(), halves(), config, 0, tmp_path / "c.pt", ignore)
    model = StudentWithProjection(new_student(config, 2, 1, seed=0), teacher_width=2)
    model.load_state_dict(torch.load(tmp_path / "c.pt", weights_only=True)["model"])
    views = random_views(halves().float() / 255, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        wanted = bright_side().features(views)
        assert feature_loss(wanted.mean(0).expand_as(wanted), wanted) > 0.2
        assert feature_loss(model.eval()(views)[1], wanted) < 0.05
    assert not model.release().head._forward_pre_hooks


def test_a_full_disk_leaves_the_checkpoint_of_before(tmp_path: Path) -> None:
    recipe = DistillationConfig(architecture="small-resnet-4", num_steps=3, batch_size=4)
    state = State(StudentWithProjection(new_student(recipe, 2, 1, seed=0)), recipe, torch.device("cpu"))
    state.save(tmp_path / "checkpoint.pt")
    before = (tmp_path / "checkpoint.pt").read_bytes()
    state.step = 1
    with (
        small_files(10_000),
        pytest.raises(UserError, match=r"expected room for .*checkpoint\.pt, got: File"),
    ):
        state.save(tmp_path / "checkpoint.pt")
    assert contents(tmp_path) == {"checkpoint.pt": before}
    state.save(tmp_path / "checkpoint.pt")
    state.step = 5
    state.restore(tmp_path / "checkpoint.pt")
    assert state.step == 1
