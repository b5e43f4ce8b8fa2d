"""Each network sees files as its own library would read them, and arrays as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Ensemble
from prismkd.classifiers.preprocessing import from_timm, to_config
from prismkd.data import load_labeled_images
from prismkd.errors import UserError
from prismkd.evaluation.images import judge_images, labeled_batches
from prismkd.evaluation.scores import evaluate
from prismkd.evaluation.students import evaluate_student, logits_of

SIZES = ((90, 60), (41, 120), (20, 20), (64, 64), (200, 21))
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of many sizes, of two classes."""
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        folder = tmp_path / "photos" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return tmp_path / "photos"


class Means(nn.Module):
    """Logits are the first pixels; keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = list[Tensor]()

    def forward_features(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images.flatten(1)[:, :2]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images)


def witness(**config: Any) -> Classifier:
    return Classifier(Means(), {"num_classes": 2, **config}).eval()


def shown(network: Classifier) -> np.ndarray:
    return torch.cat(network.network.seen).numpy()


OWN = {"resize": 40, "crop": [32, 32], "interpolation": "bicubic"}


def cut(path: Path, resize: int, side: int, interpolation: str = "bicubic") -> np.ndarray:
    """The same by hand."""
    picture = Image.open(path)
    width, height = (resize * length // min(picture.size) for length in picture.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    picture = picture.resize((width, height), FILTERS[interpolation]).crop((left, top, left + side, top + side))
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255


def paths(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


@pytest.mark.parametrize("overlay", [
    {"crop_mode": "squash", "crop_pct": 0.9}, {"interpolation": "bilinear", "crop_pct": 0.875}, {"crop_pct": 1.0},
    {"interpolation": "bicubic", "input_size": (3, 72, 72), "crop_pct": 0.95}, {"crop_pct": 1.25},
])  # fmt: skip
def test_the_network_gets_what_timms_transform_gives(photos: Path, overlay: dict[str, Any]) -> None:
    cfg = timm.create_model("test_resnet", pretrained_cfg_overlay={"input_size": (3, 64, 64), **overlay}).pretrained_cfg
    stock = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))
    network = witness(**to_config(from_timm(cfg)))
    logits_of(network, load_labeled_images(photos, 2, usual_size=64))
    expected = torch.stack([stock(Image.open(path).convert("RGB")) for path in paths(photos)])
    np.testing.assert_allclose(shown(network), expected.numpy(), rtol=0, atol=1e-6)


def test_a_gray_teacher_gets_pillows_gray_before_it_is_resized(photos: Path) -> None:
    network = witness(in_channels=1, input_size=24)
    logits_of(network, load_labeled_images(photos, 2, usual_size=24))
    pictures = [Image.open(path).convert("L").resize((24, 24), Image.Resampling.BILINEAR) for path in paths(photos)]
    np.testing.assert_array_equal(shown(network), np.stack([np.asarray(p, np.float32)[None] / 255 for p in pictures]))


def test_a_student_without_a_geometry_sees_what_its_teacher_sees(photos: Path) -> None:
    student, teacher = witness(), witness(**OWN)
    evaluate_student(student, teacher, load_labeled_images(photos, 2, usual_size=40), "m", 0)
    expected = np.stack([cut(path, 40, 32) for path in paths(photos)])
    np.testing.assert_array_equal(shown(student), expected)
    np.testing.assert_array_equal(shown(teacher), expected)


def test_a_student_with_its_own_geometry_is_read_in_it(photos: Path) -> None:
    student = witness(resize=20, crop=[16, 16], interpolation="bilinear")
    evaluate_student(student, witness(**OWN), load_labeled_images(photos, 2, usual_size=40), "m", 0)
    np.testing.assert_array_equal(shown(student), np.stack([cut(path, 20, 16, "bilinear") for path in paths(photos)]))


def test_the_size_that_is_asked_for_comes_before_the_geometry(photos: Path) -> None:
    small, large = witness(**OWN), witness(**OWN)
    logits_of(small, load_labeled_images(photos, 2, image_size=8))
    logits_of(large, load_labeled_images(photos, 2, usual_size=40))
    assert shown(small).shape == shown(large).shape == (len(SIZES), 3, 32, 32)
    assert np.abs(np.diff(shown(small))).mean() < np.abs(np.diff(shown(large))).mean()  # 8 pixels are all it has


def test_a_network_that_resizes_and_cuts_nothing_takes_pictures_of_several_sizes_one_by_one(photos: Path) -> None:
    network = witness(resize=16)
    logits = logits_of(network, load_labeled_images(photos, 2, usual_size=16))
    assert logits.shape == (len(SIZES), 2)
    assert {tuple(images.shape[-2:]) for images in network.network.seen} == {
        (16, 24), (16, 16), (46, 16), (16, 152),
    }  # fmt: skip


def test_each_of_several_teachers_sees_files_in_its_own_geometry(photos: Path) -> None:
    one, other = witness(**OWN), witness(resize=20, crop=[16, 16], interpolation="bilinear")
    images = load_labeled_images(photos, 2, usual_size=40)
    several = Ensemble([one, other], [[0, 1], [1, -1]], 2).eval()
    found = logits_of(several, images)
    ours, theirs = logits_of(one, images), logits_of(other, images)
    np.testing.assert_allclose(found[:, 0], ours[:, 0])
    np.testing.assert_allclose(found[:, 1], (ours[:, 1] + theirs[:, 0]) / 2, rtol=1e-6)
    alike = Ensemble([one, witness(**OWN)], [[0, 1], [0, 1]], 2).eval()
    np.testing.assert_allclose(logits_of(alike, images), ours)


def test_judge_and_teacher_see_real_files_each_in_its_own_geometry(photos: Path) -> None:
    judge, teacher = witness(**OWN), witness(resize=20, crop=[16, 16], interpolation="bilinear")
    images = load_labeled_images(photos, 2, usual_size=40)
    judged = judge_images(labeled_batches(images), teacher, judge)
    np.testing.assert_array_equal(judged.features, logits_of(witness(**OWN), images))
    assert shown(judge).shape[1:] == (3, 32, 32) and shown(teacher).shape[1:] == (3, 16, 16)
    assert judged.labels.tolist() == images.labels.tolist()


def test_arrays_are_resized_by_the_network_as_files_are_by_pillow(photos: Path) -> None:
    path = photos / "0" / "0.png"
    pixels = torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1).copy())[None]
    of_array, of_file = witness(**OWN), witness(**OWN)
    evaluate(of_array, (pixels, [0]), classes=2)
    logits_of(of_file, load_labeled_images(photos, 2, usual_size=40))
    assert np.abs(shown(of_array)[-1] - shown(of_file)[0]).max() <= 1 / 255 + 1e-6


def test_sets_of_many_sizes_need_no_size_where_one_of_the_networks_has_a_geometry(photos: Path) -> None:
    assert evaluate(witness(**OWN), photos, classes=2)["id"]["top1"].n == len(SIZES)
    assert evaluate(witness(), photos, classes=2, teacher=witness(**OWN))["id"]["agreement"].value == 1
    with pytest.raises(UserError, match=r"expected images of one size .* set evaluation.image_size"):
        evaluate(witness(), photos, classes=2)


def test_images_that_do_not_decode_are_named_all_at_once(photos: Path) -> None:
    for number in (0, 2):
        path = photos / "0" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match=r"got 2 of 5 that do not \(.*0\.png.*2\.png"):
        evaluate(witness(**OWN), photos, classes=2)
