"""Distillation in one call: the same student whatever the images come as, and errors that say what to give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prismkd.classifiers import Preprocessing, load_classifier
from prismkd.config import DistillationConfig
from prismkd.distillation import CHECKPOINT_EVERY, TrainedStudent, TrainingSet, distill, new_student, train
from prismkd.errors import UserError
from prismkd.shards import Manifest, Sample, claim, write_shard

from .worlds import CONFIG, Breaking, BrightSide, bright_side, halves, sides

SHORT = replace(CONFIG, num_steps=12)


def distilled(images: Any = None, labels: Any = None, **settings: Any) -> TrainedStudent:
    images = halves() if images is None else images
    given = {"student": "small-resnet-4", "config": SHORT, **settings}
    return distill(bright_side().eval(), images, labels, **given)


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_it_is_the_loop_with_a_new_student() -> None:
    expected = new_student(SHORT, 2, 1, seed=3)
    log = train(expected, bright_side(), halves(), SHORT, 3)
    student = distilled(seed=3)
    assert_equal(expected, student.network)
    assert student.log == log and not student.training
    assert student.config == {"architecture": "small-resnet-4", "num_classes": 2, "in_channels": 1}


def test_images_may_come_as_bytes_floats_arrays_sets_or_shards(tmp_path: Path) -> None:
    expected = distilled()
    as_floats = halves().float() / 255
    for images in (as_floats, as_floats.double(), halves().numpy(), as_floats.numpy(), TrainingSet(halves())):
        assert_equal(expected, distilled(images))
    rows = enumerate(zip(halves().numpy(), sides().tolist(), strict=True))
    manifest = claim(tmp_path / "images", Manifest({}, (64,), 64, ("left", "right")))
    samples = (Sample(index, image[0], label, {}) for index, (image, label) in rows)
    write_shard(tmp_path / "images", 0, samples, manifest.plan_hash)
    assert_equal(distilled(halves(), sides()), distilled(tmp_path / "images"))
    assert_equal(distilled(halves(), sides()), distilled(str(tmp_path / "images")))


def test_a_transformer_is_built_for_the_size_of_its_images(tmp_path: Path) -> None:
    student = distilled(student="timm:test_vit", num_steps=1, image_size=48, augmentation="none")
    assert student.config["arguments"] == {"img_size": 48}
    student.save(tmp_path / "student")
    images = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(load_classifier(tmp_path / "student")(images).argmax(1), student(images).argmax(1))
    with pytest.raises(UserError, match=r"divisible by patch size .*; choose another distillation.architecture or"):
        distilled(student="timm:test_vit", num_steps=1, image_size=50)


def test_a_trained_student_is_saved_and_loaded(tmp_path: Path) -> None:
    student = distilled(halves(), [int(label) for label in sides()], config=CONFIG)
    student.save(tmp_path / "student")
    again = load_classifier(tmp_path / "student")
    images = halves().float() / 255
    with torch.no_grad():
        assert (student(images).argmax(1) == sides()).float().mean() > 0.95
        assert torch.equal(again(images).argmax(1), student(images).argmax(1))


def test_a_module_is_trained_itself_and_a_function_is_called() -> None:
    module = new_student(SHORT, 2, 1, seed=0)
    before = [parameter.clone() for parameter in module.parameters()]
    found = distilled(student=module)
    assert found.network is module and found.config["architecture"] == "module SmallResNet"
    assert not any(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in found.parameters())
    again = distilled(student=lambda: new_student(SHORT, 2, 1, seed=0))
    assert_equal(found.network, again.network)
    assert again.config["architecture"].startswith("module SmallResNet ")


def test_a_training_that_was_interrupted_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    config = replace(CONFIG, num_steps=CHECKPOINT_EVERY + 10)
    left = iter(range(CHECKPOINT_EVERY + 2))

    def stop(count: int) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distilled(config=config, checkpoint=tmp_path / "c.pt", progress=stop)
    steps = list[int]()
    resumed = distilled(config=config, checkpoint=str(tmp_path / "c.pt"), progress=steps.append)
    assert steps[0] == CHECKPOINT_EVERY and sum(steps) == config.num_steps
    assert_equal(resumed, distilled(config=config))


def test_without_a_checkpoint_nothing_is_kept_and_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a finite loss, got another at step .*; nothing is kept; lower the"):
        distilled(student=Breaking(CHECKPOINT_EVERY + 7), config=CONFIG)


def test_a_teacher_of_the_users_own_stays_as_it_is() -> None:
    teacher = BrightSide().eval()
    found = distill(teacher, halves(), student="small-resnet-4", config=SHORT)
    assert_equal(found.network, distilled().network)
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    inverted = Preprocessing(1, mean=(1.0,), std=(-1.0,))
    other = distill(teacher, halves(), student="small-resnet-4", config=SHORT, preprocessing=inverted)
    assert not torch.equal(found.network.head.weight, other.network.head.weight)  # type: ignore[union-attr]


def test_single_settings_change_the_recipe() -> None:
    assert_equal(distilled(num_steps=4), distilled(config=replace(SHORT, num_steps=4)))
    assert len(distilled(config=None, num_steps=1, batch_size=2).log.rows) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": torch.rand(4, 32, 32)}, r"expected images \(n, channels, height, width\), got \(4, 32, 32\)"),
        ({"images": np.zeros((4, 32, 32, 3), np.uint8)}, "whose channels are last; move them with images.transpose"),
        ({"images": torch.rand(4, 1, 32, 32) * 2 - 1}, r"as uint8 or as float in \[0, 1\], got torch.float32 from -"),
        ({"images": torch.full((4, 1, 32, 32), torch.nan)}, r"float in \[0, 1\], got torch.float32 from nan"),
        ({"images": torch.ones(4, 1, 32, 32, dtype=torch.int64)}, r"got torch.int64 from 1 to 1; scale them"),
        ({"images": "nowhere"}, "expected a folder of shards that `prismkd synthesize` wrote, got nowhere"),
        ({"labels": [0, 1]}, r"expected labels \(64,\) as integers, one per image, got torch.int64 \(2,\)"),
        ({"labels": [2] * 64}, "expected labels from 0 to 1, the teacher's classes, got 2"),
        ({"images": TrainingSet(halves()), "labels": sides()}, "expected no labels beside a TrainingSet"),
        ({"num_step": 3}, "expected a setting of DistillationConfig, got num_step; perhaps num_steps"),
        ({"architecture": "resnet18"}, "expected a setting of DistillationConfig, got architecture"),
        ({"num_steps": 0}, r"expected a positive distillation\.num_steps, got 0"),
        (
            {"config": DistillationConfig(real="x", real_share=0.5)},
            "give real images as prismkd.distillation.TrainingS",
        ),
        ({"student": "resnet81"}, "perhaps resnet18"),
        ({"student": nn.Flatten()}, r"expected logits \(2, 2\) of the student, got \(2, 1024\)"),
        ({"hard_label_weight": 0.5}, "expected labels for distillation.hard_label_weight, got images alone"),
        ({"weight_by_agreement": True}, "expected labels for distillation.weight_by_agreement, got images alone"),
    ],
)
def test_what_does_not_fit_is_one_error_with_its_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distilled(**arguments)
    with pytest.raises(UserError, match="got one in training mode"):
        distill(BrightSide(), halves(), config=SHORT)
