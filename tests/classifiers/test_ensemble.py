"""Several teachers as one: classes find their places, and each one's logit is the mean over those who know it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prismkd.classifiers import Ensemble, load_teacher, save_classifier
from prismkd.classifiers.classifier import Classifier
from prismkd.classifiers.networks import SmallResNet
from prismkd.errors import UserError
from prismkd.guidance.energy import free_energy

CLASSES = ["apple", "bell", "cat"]


class Corners(nn.Module):
    """Logits are the values of the first pixels, times ``scale``, plus ``offset``."""

    def __init__(self, pixels: list[int], scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.pixels, self.scale, self.offset = pixels, scale, offset

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.flatten(1)[:, self.pixels] + self.offset


def member(pixels: list[int], **more: float) -> Classifier:
    return Classifier(Corners(pixels, **more), {"num_classes": len(pixels), "in_channels": 1}).eval()


def test_one_teacher_is_itself() -> None:
    images = torch.rand(4, 1, 2, 2)
    ensemble = Ensemble([member([0, 1, 2])], [[0, 1, 2]], 3)
    assert torch.allclose(ensemble(images), images.flatten(1)[:, :3], atol=1e-6)


def test_outputs_find_their_classes_and_foreign_ones_are_dropped() -> None:
    images = torch.rand(4, 1, 2, 2)
    ensemble = Ensemble([member([0, 1]), member([2, 3])], [[2, 0], [1, -1]], 3)
    pixels = images.flatten(1)
    assert torch.allclose(ensemble(images), pixels[:, [1, 2, 0]], atol=1e-6)
    assert ensemble.known[0].tolist() == [1, 0, 1]


def test_outputs_of_one_class_are_averaged() -> None:
    images = torch.rand(4, 1, 2, 2)
    ensemble, pixels = Ensemble([member([0, 1, 2])], [[0, 0, 1]], 2), images.flatten(1)
    expected = torch.stack([(pixels[:, 0] + pixels[:, 1]) / 2, pixels[:, 2]], dim=1)
    assert torch.allclose(ensemble(images), expected, atol=1e-6)
    assert torch.allclose(ensemble(images, torch.zeros(4, dtype=torch.long)), expected, atol=1e-6)


def test_it_is_the_plain_average_over_those_who_know() -> None:
    images = torch.rand(4, 1, 2, 2)
    ensemble = Ensemble([member([0, 1]), member([2, 3])], [[0, 1], [1, 2]], 3)
    pixels = images.flatten(1)
    expected = torch.stack([pixels[:, 0], (pixels[:, 1] + pixels[:, 2]) / 2, pixels[:, 3]], dim=1)
    assert torch.allclose(ensemble(images), expected, atol=1e-6)


def test_of_an_image_that_was_drawn_for_a_class_only_those_answer_who_know_it() -> None:
    images = torch.rand(2, 1, 2, 2)
    ensemble = Ensemble([member([0, 1]), member([2, 3])], [[0, 1], [1, 2]], 3)
    pixels = images.flatten(1)
    of_apple, of_bell = ensemble(images, torch.tensor([0, 1]))
    first, second = pixels[0, [0, 1]]
    assert torch.allclose(of_apple, torch.stack([first, second, torch.minimum(first, second)]))  # the least for a cat
    expected = torch.stack([pixels[1, 0], (pixels[1, 1] + pixels[1, 2]) / 2, pixels[1, 3]])
    assert torch.allclose(of_bell, expected)  # both know bells: as without a label


def test_those_who_do_not_know_are_not_even_shown_the_image() -> None:
    class Never(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError(f"shown {len(images)} images")

    never = Classifier(Never(), {"num_classes": 1, "in_channels": 1})
    ensemble = Ensemble([member([0, 1]), never], [[0, 1], [2]], 3)
    assert ensemble(torch.rand(2, 1, 2, 2), torch.tensor([0, 1])).shape == (2, 3)
    with pytest.raises(AssertionError, match="shown 1 images"):
        ensemble(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))


def test_of_a_mixture_each_one_answers_by_the_share_that_it_knows() -> None:
    images, shares = torch.rand(1, 1, 2, 2), torch.tensor([[0.75, 0.0, 0.25]])
    ensemble = Ensemble([member([0, 1]), member([2, 3])], [[0, 1], [1, 2]], 3)
    a, b, c, d = images.flatten()
    assert torch.allclose(ensemble(images, shares)[0], torch.stack([a, 0.75 * b + 0.25 * c, d]))
    whole = torch.eye(3)[[2]]
    assert torch.equal(ensemble(images, whole), ensemble(images, torch.tensor([2])))


def test_which_classes_they_know_is_no_part_of_the_teachers_state() -> None:
    assert "known" not in Ensemble([member([0, 1])], [[0, 1]], 2).state_dict()


def test_gradients_reach_the_image() -> None:
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    parts = [Classifier(SmallResNet(2, 4).eval(), {"num_classes": 2, "in_channels": 1}) for _ in range(2)]
    ensemble = Ensemble(parts, [[0, 1], [1, 2]], 3)
    free_energy(ensemble(images)).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert ensemble.features(images).shape == (2, 32)
    with pytest.raises(UserError, match="got several"):
        _ = ensemble.head


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, classes in (("a", ["apple", "bell"]), ("b", ["Bell", "cat"])):
        config = {"architecture": "small-resnet-4", "num_classes": 2, "in_channels": 1, "label_names": classes}
        save_classifier(tmp_path / name, SmallResNet(2, 4), config)
    return tmp_path


def federation(folder: Path, text: str) -> str:
    (folder / "teachers.toml").write_text(text)
    return str(folder / "teachers.toml")


def test_a_list_of_teachers_is_loaded_with_their_own_names(folder: Path) -> None:
    ensemble = load_teacher(federation(folder, '[[teacher]]\nsource = "a"\n[[teacher]]\nsource = "b"\n'), CLASSES)
    assert isinstance(ensemble, Ensemble)
    assert ensemble.known.tolist() == [[1, 1, 0], [0, 1, 1]]
    assert ensemble(torch.rand(2, 1, 32, 32)).shape == (2, 3)


def test_each_teacher_of_a_list_may_have_its_own_preprocessing(folder: Path) -> None:
    text = '[[teacher]]\nsource = "a"\npreprocessing = {resize = [24, 28], mean = [0.1]}\n[[teacher]]\nsource = "b"\n'
    ensemble = load_teacher(federation(folder, text), CLASSES)
    assert isinstance(ensemble, Ensemble)
    assert [member.preprocess.resize for member in ensemble.members] == [(24, 28), None]
    assert ensemble.members[0].preprocess.mean == (0.1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[teacher]]\nsource = "a"\n', "expected a teacher for every class in .*, got none for 'cat' \\(1 of 3\\)"),
        ('[[teacher]]\nsource = "a"\nclasses = ["aple", "bell"]\n', "got 'aple'; perhaps 'apple', or - for none"),
        ('[[teacher]]\nsource = "a"\nclasses = ["apple"]\n', "expected 2 classes for a in .*, got 1"),
        ('[[teacher]]\nsource = "a"\nweight = 2\n', "expected source, classes or pre.* got 'weight'"),
        ('[[teacher]]\nsource = "a"\npreprocessing = 3\n', r"got `int` at teacher\[0\]\.preprocessing"),
        ('[[teacher]]\nsource = "a"\npreprocessing = {size = 3}\n', "got preprocessing of a.size"),
        ('[[teacher]]\nsource = "c"\n', "expected a classifier folder with config.json, got c"),
        ("teacher = 3", r"got `int` at teacher; write \[\[teacher\]\] sections with a source"),
        ("[[teacher", r"expected TOML in .*; write \[\[teacher\]\] sections with a source"),
    ],
)
def test_a_bad_list_is_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(federation(folder, text), CLASSES)
