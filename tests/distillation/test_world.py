"""The student's world: its size, its views, its normalization, and the geometry in which it is measured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prismkd import distill
from prismkd.classifiers import Classifier, Preprocessing, load_classifier
from prismkd.classifiers.ensemble import Ensemble
from prismkd.classifiers.preprocessing import from_config
from prismkd.config import DistillationConfig
from prismkd.distillation import TrainingSet, train
from prismkd.distillation.world import World

RECIPE = DistillationConfig(num_steps=2, batch_size=4)
IMAGENET = {"num_classes": 2, "in_channels": 3, "resize": 256, "crop": [224, 224], "interpolation": "bicubic",
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # fmt: skip
SMALL = IMAGENET | {"resize": 32, "crop": [28, 28]}


class Mean(nn.Module):
    """Two logits of an image's mean color; remembers the images that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.seen = nn.Linear(3, 2), list[Tensor]()

    def __deepcopy__(self, memo: object) -> "Mean":
        return self  # a training copies its teacher

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach())
        return self.head(images.mean((2, 3)))


def teacher(config: dict[str, object]) -> Classifier:
    return Classifier(Mean(), config).eval().requires_grad_(False)


def test_without_an_input_size_images_stay_as_they_are() -> None:
    world = World.of(RECIPE, teacher({"num_classes": 2, "in_channels": 3}))
    assert (world.side, world.stored_side, world.augmentation) == (None, None, "icons")
    assert world.student_config(3) == {"in_channels": 3}
    images = torch.rand(2, 3, 20, 24)
    assert world.stored(images) is world.plain(images) is images
    network = Mean()
    assert world.trained_form(network, 2, 3) is network


def test_the_teachers_input_size_is_the_students() -> None:
    world = World.of(RECIPE, teacher(IMAGENET))
    assert (world.side, world.stored_side, world.augmentation) == (224, 256, "photos")
    assert world.image_shape((3, 512, 512)) == (3, 224, 224)
    assert world.views(torch.rand(2, 3, 256, 256), None).shape == (2, 3, 224, 224)


def test_several_teachers_have_the_size_of_the_largest() -> None:
    members = [teacher({"num_classes": 2, "in_channels": 3}), teacher(SMALL), teacher(IMAGENET)]
    assert World.of(RECIPE, Ensemble(members, [[0, 1]] * 3, 2)).side == 224


@pytest.mark.parametrize(
    ("given", "side", "wanted"),
    [
        (IMAGENET, 0, Preprocessing(3, 256, (224, 224), "bicubic")),
        (IMAGENET, 112, Preprocessing(3, 128, (112, 112), "bicubic")),
        (IMAGENET | {"floor_crop": True}, 448, Preprocessing(3, 512, (448, 448), "bicubic", floor_crop=True)),
        ({**IMAGENET, "resize": [248, 248]}, 112, Preprocessing(3, (124, 124), (112, 112), "bicubic")),
        ({"num_classes": 2, "input_size": 64}, 0, Preprocessing(3, (64, 64), None, "bilinear")),  # squashed
        ({"num_classes": 2, "input_size": 64}, 32, Preprocessing(3, (32, 32), None, "bilinear")),
        ({"num_classes": 2, "resize": [64, 48], "crop": None}, 0, Preprocessing(3, (64, 64), None, "bilinear")),
        ({"num_classes": 2, "resize": 64}, 0, Preprocessing(3, 64, None, "bilinear")),  # nothing is cut off
        ({"num_classes": 2, "resize": 64}, 32, Preprocessing(3, 32, None, "bilinear")),
        ({"num_classes": 2}, 48, Preprocessing(3, 48, (48, 48), "bicubic")),  # a teacher of any size
    ],
)
def test_a_student_is_measured_in_its_teachers_geometry_scaled_to_its_own_size(
    given: dict[str, object], side: int, wanted: Preprocessing
) -> None:
    world = World.of(replace(RECIPE, image_size=side), teacher(given))
    found = from_config(world.student_config(3))
    assert replace(found, mean=(0.0,), std=(1.0,)) == wanted
    assert (found.mean, found.std) == (from_config(given).mean, from_config(given).std)
    unnormalized = from_config(world.student_config(3, normalized=False))
    assert (unnormalized.mean, unnormalized.std) == ((0.0,), (1.0,))


def test_gray_images_are_normalized_by_the_mean_over_the_teachers_colors() -> None:
    config = World.of(RECIPE, teacher(IMAGENET)).student_config(1)
    assert config["mean"] == pytest.approx([0.449]) and config["std"] == pytest.approx([0.226])


def test_teacher_and_student_see_the_same_part_of_an_image_each_normalized() -> None:
    known, student = teacher(SMALL), Mean()
    world = World.of(RECIPE, known)
    trained = world.trained_form(student, 2, 3)
    train(trained, known, torch.rand(8, 3, 48, 40), RECIPE, 0)
    (first, second, *_), (own, other, *_) = known.network.seen, student.seen
    assert first.shape == own.shape == (4, 3, 28, 28)  # nothing is cut off of a view
    assert torch.equal(first, own) and torch.equal(second, other)
    mean, std = (torch.tensor(SMALL[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert (own * std + mean).min() >= 0 and (own * std + mean).max() <= 1


def test_views_follow_from_seed_and_step() -> None:
    known = [teacher(SMALL) for _ in range(3)]
    images = torch.rand(8, 3, 32, 32)
    for each, seed in zip(known, (0, 0, 1), strict=True):
        train(Mean(), each, images, RECIPE, seed)
    first, same, other = (each.network.seen for each in known)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], first[1])


@pytest.mark.parametrize(("augmentation", "num_different"), [("none", 1), ("photos", 4), ("icons", 4)])
def test_the_augmentation_is_the_recipes(augmentation: str, num_different: int) -> None:
    known = teacher(SMALL)
    train(Mean(), known, torch.rand(1, 3, 28, 28), replace(RECIPE, augmentation=augmentation), 0)
    assert len({tuple(view.flatten()[:50].tolist()) for view in known.network.seen[0]}) == num_different


def test_the_fast_mode_shows_whole_images_in_the_teachers_own_geometry() -> None:
    known, images = teacher(SMALL), torch.rand(8, 3, 32, 32)
    train(Mean(), known, images, replace(RECIPE, stored_logits=True), 0)
    (seen,) = known.network.seen
    assert torch.equal(seen, known.preprocess(images))


@pytest.mark.parametrize("kind", ["named", "module"])
def test_what_is_saved_answers_as_it_was_trained(tmp_path: Path, kind: str) -> None:
    """A student by name has its teacher's normalization; a module of the user's own takes images in [0, 1]."""
    known = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), SMALL).eval()
    student = "resnet10t" if kind == "named" else Mean()
    images = torch.randint(0, 256, (8, 3, 40, 36), dtype=torch.uint8)
    found = distill(known, TrainingSet(images), student=student, config=RECIPE)
    assert found.config["mean"] == (SMALL["mean"] if kind == "named" else [0.0])
    if kind == "named":
        found.save(tmp_path / "student")
        found = load_classifier(tmp_path / "student")
    assert (found.preprocess.resize, found.preprocess.crop, found.input_size) == (32, (28, 28), 32)
    views = torch.rand(2, 3, 28, 28)
    mean, std = (torch.tensor(found.config[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        assert torch.equal(found(views, cropped=True), found.network((views - mean) / std))
