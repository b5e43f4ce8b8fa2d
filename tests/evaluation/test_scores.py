"""Scores in one call: the numbers of a run, from whatever holds the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from prismkd.errors import UserError
from prismkd.evaluation.scores import Scores, evaluate
from prismkd.evaluation.students import evaluate_student

from .test_evaluation import EVERY, NUM_CLASSES, TEST, classifier

NAMES = [f"thing {label}" for label in range(NUM_CLASSES)]


def pixels_of(labels: list[int]) -> Tensor:
    """uint8 images whose gray value is ten times their label."""
    return (10 * torch.tensor(labels, dtype=torch.uint8)).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def write_folders(folder: Path, labels: list[int]) -> Path:
    for number, label in enumerate(labels):
        (folder / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * label, np.uint8)).save(folder / NAMES[label] / f"{number}.png")
    return folder


def assert_same(first: Scores, second: Scores) -> None:
    """But for the order of sums, and for intervals: folders are read in the order of their names."""
    assert first.keys() == second.keys()
    for domain in first:
        assert {name: (pytest.approx(score.value), score.n) for name, score in first[domain].items()} == {
            name: (score.value, score.n) for name, score in second[domain].items()
        }


def test_the_numbers_are_those_of_a_run() -> None:
    found = evaluate(classifier(1), TEST, classes=NAMES, teacher=classifier(), restrict_below=0.5)
    rows = evaluate_student(classifier(1), classifier(), TEST, "", 0, restrict_below=0.5).rows
    assert [(domain, name) for domain, scores in found.items() for name in scores] == [
        (r.domain, r.metric) for r in rows
    ]
    for row in rows:
        assert found[row.domain][row.metric] == (row.value, row.n, row.ci95)
    assert list(found) == ["id", "few"]


def test_without_a_teacher_there_is_no_agreement() -> None:
    with_one, without = (evaluate(classifier(1), TEST, classes=NAMES, teacher=t) for t in (classifier(), None))
    assert {"agreement"} == with_one["id"].keys() - without["id"].keys()
    assert all(with_one["id"][name] == score for name, score in without["id"].items())


def test_folders_arrays_and_loaded_images_give_the_same(tmp_path: Path) -> None:
    expected = evaluate(classifier(1), write_folders(tmp_path, EVERY), classes=NAMES)
    assert expected["id"]["top1"].n == len(EVERY) and expected["id"]["top1"].value == 1 / NUM_CLASSES
    as_bytes = pixels_of(EVERY)
    for images in (as_bytes, as_bytes.float() / 255, as_bytes.numpy(), as_bytes.double().numpy() / 255):
        for labels in (EVERY, torch.tensor(EVERY), np.array(EVERY)):
            assert_same(evaluate(classifier(1), (images, labels), classes=NUM_CLASSES), expected)
    assert_same(evaluate(classifier(1), TEST.domain("id"), classes=NAMES), expected)


def test_shifted_sets_are_domains_of_their_own(tmp_path: Path) -> None:
    test, sketches = write_folders(tmp_path / "test", EVERY), write_folders(tmp_path / "sketch", EVERY[:5])
    found = evaluate(
        classifier(), test, classes=NAMES, shifted={"sketch": sketches, "few": (pixels_of([3, 3]), [3, 4])}
    )
    assert list(found) == ["id", "sketch", "few"]
    assert found["sketch"]["top1"].value == 1 and found["sketch"]["top1"].n == 5
    assert found["few"]["top1"].value == 0.5 and found["few"]["present_classes"].value == 2
    with pytest.raises(UserError, match="another name for a shifted set than 'id', which is taken"):
        evaluate(classifier(), test, classes=NAMES, shifted={"id": sketches})


def test_scores_print_as_a_table_and_are_plain_data() -> None:
    found = evaluate(classifier(1), TEST, classes=NAMES, teacher=classifier(), restrict_below=0.0)
    head, first, second = str(found).splitlines()
    assert head.split() == ["domain", "images", "top1", "top5", "ece", "agreement"]
    assert first.startswith("id      40      0.050 [") and second.startswith("few     3       0.000 [0.000, 0.000]")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["id"]["top1"] == {"value": 0.05, "n": 40, "ci95": list(found["id"]["top1"].ci95 or ())}
    assert data["id"]["ece"]["ci95"] is None
    assert str(Scores()) == "domain  images"


def test_what_does_not_fit_is_one_error() -> None:
    with pytest.raises(UserError, match=r"expected logits \(1, 3\) of the student, got \(1, 20\)"):
        evaluate(classifier(), (pixels_of([0, 1]), [0, 1]), classes=["a", "b", "c"])
    with pytest.raises(UserError, match=r"expected logits \(1, 20\) of the teacher, got \(1, 16\)"):
        evaluate(classifier(), TEST, classes=NAMES, teacher=nn.Flatten())
    with pytest.raises(UserError, match="expected labels from 0 to 1, got 0 to 19"):
        evaluate(classifier(), TEST, classes=["a", "b"])
    with pytest.raises(
        UserError, match=r"images \(n, channels, height, width\) and labels \(n,\) as integers, got \(4, 4"
    ):
        evaluate(classifier(), (torch.zeros(4, 4, 4), [0] * 4), classes=NAMES)
    with pytest.raises(UserError, match=r"expected a student that takes images \(1, 1, 4, 4\), got RuntimeError"):
        evaluate(nn.Linear(7, 20), (pixels_of([0, 1]), [0, 1]), classes=NAMES)
    with pytest.raises(UserError, match="got nowhere; check the path"):
        evaluate(classifier(), "nowhere", classes=NAMES)
    with pytest.raises(UserError, match="in the given list, got 'a' for the classes 1, 2"):
        evaluate(classifier(), TEST, classes=["a", "a"])
