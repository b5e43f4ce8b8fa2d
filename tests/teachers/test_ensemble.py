"""Several teachers as one: classes find their places, and how they are combined is learned from the prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prismkd.energy import free_energy
from prismkd.errors import UserError
from prismkd.students import SmallResNet
from prismkd.teachers import Ensemble, load_teacher, save_classifier
from prismkd.teachers import ensemble as module
from prismkd.teachers.classifier import Classifier
from prismkd.teachers.ensemble import stack

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
    assert ensemble.knows(0, torch.tensor([0, 1, 2])).tolist() == [True, False, True]


def test_at_first_it_is_the_plain_average_over_those_who_know() -> None:
    images = torch.rand(4, 1, 2, 2)
    ensemble = Ensemble([member([0, 1]), member([2, 3])], [[0, 1], [1, 2]], 3)
    pixels = images.flatten(1)
    expected = torch.stack([pixels[:, 0], (pixels[:, 1] + pixels[:, 2]) / 2, pixels[:, 3]], dim=1)
    assert torch.allclose(ensemble(images), expected, atol=1e-6)


def pictures(count: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Grey images whose brightness, over some noise, is their class: views leave it as it is."""
    labels = torch.arange(count) % num_classes
    brightness = (labels + 0.5) / num_classes
    noise = 0.05 * torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return (brightness[:, None, None, None] + noise).clamp(0, 1), labels


class Shades(nn.Module):
    """Logits fall with the distance of the mean brightness from each of ``shades``."""

    def __init__(self, shades: list[float], offset: float = 0.0) -> None:
        super().__init__()
        self.shades, self.offset = torch.tensor(shades), offset

    def forward(self, images: Tensor) -> Tensor:
        return self.offset - 50 * (images.flatten(1).mean(1, keepdim=True) - self.shades).square()


def shades(values: list[float], **more: float) -> Classifier:
    return Classifier(Shades(values, **more), {"num_classes": len(values), "in_channels": 1}).eval()


def test_a_teacher_that_is_wrong_loses_its_say() -> None:
    """One knows all shades; the other calls them by each other's names, four times as loudly."""
    images, labels = pictures(90, 3)
    right, wrong = shades([1 / 6, 3 / 6, 5 / 6]), shades([5 / 6, 1 / 6, 3 / 6])
    ensemble = Ensemble([right, wrong], [[0, 1, 2]] * 2, 3)
    average = float((ensemble(images).argmax(1) == labels).float().mean())
    found = stack(ensemble, images, labels)
    assert found["agreement"] > 0.9 > 0.6 > average
    assert float((ensemble(images).argmax(1) == labels).float().mean()) > 0.9
    assert found["cross_entropy"][str(found["ridge"])] == min(found["cross_entropy"].values())


def test_an_infinitely_strong_ridge_leaves_the_plain_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RIDGES", (1e6,))
    images, labels = pictures(90, 3)
    ensemble = Ensemble([shades([1 / 6, 3 / 6]), shades([3 / 6, 5 / 6])], [[0, 1], [1, 2]], 3)
    plain = ensemble.weight.clone()
    stack(ensemble, images, labels)
    assert torch.allclose(ensemble.weight, plain, atol=1e-4)


def test_five_classes_that_take_turns_are_all_learned() -> None:
    """Each fifth image would hold out one class alone."""
    images, labels = pictures(150, 5)
    ensemble = Ensemble([shades([0.1, 0.3, 0.5, 0.7, 0.9])], [[0, 1, 2, 3, 4]], 5)
    found = stack(ensemble, images, labels)
    assert found["agreement"] > 0.9 and found["average_agreement"] > 0.9


def test_a_free_offset_of_a_teacher_changes_no_probability_once_stacked() -> None:
    images, labels = pictures(90, 3)
    found = []
    for offset in (0.0, 25.0):
        ensemble = Ensemble([shades([1 / 6, 3 / 6]), shades([3 / 6, 5 / 6], offset=offset)], [[0, 1], [1, 2]], 3)
        stack(ensemble, images, labels)
        found.append(ensemble(images).softmax(1))
    assert torch.allclose(found[0], found[1], atol=0.02)


def test_what_is_learned_is_no_part_of_the_teachers_state() -> None:
    assert not {"weight", "bias"} & set(Ensemble([member([0, 1])], [[0, 1]], 2).state_dict())


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
    assert [ensemble.knows(number, torch.arange(3)).tolist() for number in (0, 1)] == [[1, 1, 0], [0, 1, 1]]
    assert ensemble(torch.rand(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[teacher]]\nsource = "a"\n', "expected a teacher for every class in .*, got none for 'cat' \\(1 of 3\\)"),
        ('[[teacher]]\nsource = "a"\nclasses = ["aple", "bell"]\n', "got 'aple'; perhaps 'apple', or - for none"),
        ('[[teacher]]\nsource = "a"\nclasses = ["apple"]\n', "expected 2 classes for a in .*, got 1"),
        ('[[teacher]]\nsource = "a"\nweight = 2\n', "expected source and classes in each .* got 'weight'"),
        ('[[teacher]]\nsource = "c"\n', "expected a classifier folder with config.json, got c"),
        ("teacher = 3", r"expected \[\[teacher\]\] sections with source"),
        ("[[teacher", r"expected \[\[teacher\]\] sections with source"),
    ],
)
def test_a_bad_list_is_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(federation(folder, text), CLASSES)
