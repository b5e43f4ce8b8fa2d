"""Rows say what students and images do; classes that a domain lacks don't compete where few are left."""

from __future__ import annotations

import io
from itertools import starmap

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from prismkd.classifiers import Classifier
from prismkd.data import EncodedImage, LabeledImages
from prismkd.data.images import Form
from prismkd.evaluation.images import JudgedImages, compare_images, judge_images, labeled_batches, split_halves
from prismkd.evaluation.rows import LabeledBatch
from prismkd.evaluation.students import evaluate_student, logits_of
from prismkd.metrics.hits import pack_hits, unpack_hits

NUM_CLASSES = 20


class Gray(nn.Module):
    """Sees the class in an image's gray value, which is ten times its label; ``offset`` classes too far."""

    def __init__(self, offset: int = 0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(float(offset)), requires_grad=False)

    def forward_features(self, images: Tensor) -> Tensor:
        return (255 / 10 * images.mean(dim=(1, 2, 3)) + self.offset)[:, None]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features if pre_logits else -(features - torch.arange(NUM_CLASSES)).square()

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def classifier(offset: int = 0) -> Classifier:
    return Classifier(Gray(offset), {"num_classes": NUM_CLASSES, "in_channels": 1}).eval()


def images_of(labels: list[int], domains: list[str]) -> LabeledImages:
    def encoded(label: int) -> EncodedImage:
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4), 10 * label, np.uint8)).save(buffer, "PNG")
        return EncodedImage(f"image of {label}", lambda: io.BytesIO(buffer.getvalue()))

    return LabeledImages([encoded(label) for label in labels], torch.tensor(labels), np.array(domains),
                          Form("L", None), "memory")  # fmt: skip


EVERY = list(range(NUM_CLASSES)) * 2
TEST = images_of([*EVERY, 3, 3, 7], ["id"] * len(EVERY) + ["few"] * 3)


def values(found) -> dict[tuple[str, str], float]:
    return {(row.domain, row.metric): row.value for row in found.rows}


def test_a_perfect_student_and_one_that_is_always_one_class_too_far() -> None:
    perfect, wrong = (evaluate_student(classifier(offset), classifier(), TEST, "m", 0) for offset in (0, 1))
    assert values(perfect)["id", "top1"] == values(perfect)["id", "agreement"] == 1
    assert values(wrong)["id", "top1"] == pytest.approx(1 / NUM_CLASSES)  # the last class has none behind it
    assert values(wrong)["id", "top5"] == 1
    assert values(perfect)["id", "vanished_classes"] == 0
    assert values(wrong)["id", "vanished_classes"] == 1  # nothing is taken for class 0
    assert wrong.domains["id"]["vanished"] == [0]
    assert wrong.domains["id"]["class_top1"] == [0.0] * (NUM_CLASSES - 1) + [1.0]
    assert np.array(wrong.confusion)[4].tolist() == [2 * (label == 5) for label in range(NUM_CLASSES)]
    assert wrong.confusion_teacher == wrong.confusion  # this teacher is always right


def test_a_domain_of_few_classes_is_judged_among_them_and_says_so() -> None:
    open_to_all = evaluate_student(classifier(1), classifier(), TEST, "m", 0)
    restricted = evaluate_student(classifier(1), classifier(), TEST, "m", 0, restrict_below=0.5)
    assert values(open_to_all)["few", "top1"] == 0 and ("few", "present_classes") not in values(open_to_all)
    assert values(restricted)["few", "top1"] == 1  # 4 is nearer to 3 than to 7, and 8 to 7
    assert values(restricted)["few", "present_classes"] == 2
    assert ("few", "top5") not in values(restricted) and ("id", "present_classes") not in values(restricted)
    assert values(restricted)["id", "top1"] == values(open_to_all)["id", "top1"]
    assert restricted.domains["few"]["class_top1"][3] == 1 and restricted.domains["few"]["class_top1"][4] is None


def test_known_teacher_logits_change_nothing() -> None:
    known = evaluate_student(classifier(1), classifier(), TEST, "m", 0, logits_of(classifier(), TEST))
    assert known == evaluate_student(classifier(1), classifier(), TEST, "m", 0)


def test_hits_are_kept_image_by_image_in_a_byte_for_eight() -> None:
    hits = np.random.default_rng(0).integers(0, 2, 1003)
    text = pack_hits(hits)
    assert unpack_hits(text, 1003).tolist() == hits.tolist()
    assert len(text) <= 1003 / 6 + 4
    row = evaluate_student(classifier(1), classifier(), TEST, "m", 0).domains["id"]
    assert unpack_hits(row["hits"], row["n"]).mean() == 1 / NUM_CLASSES


def features(seed: int, n: int, scale: float = 1.0) -> JudgedImages:
    labels = np.arange(n) % 4
    drawn = scale * np.random.default_rng(seed).normal(size=(n, 8)) + 3 * np.eye(8)[labels]
    return JudgedImages(drawn, labels, np.ones(n), np.zeros(n))


def test_images_are_measured_with_intervals_and_shrunken_ones_lose_recall_not_coverage() -> None:
    real = features(0, 200)
    rows = {row.metric: row for row in compare_images(features(1, 200), real, 5, "m", 0)}
    shrunken = {row.metric: row for row in compare_images(features(1, 200, 0.5), real, 5, "m", 0)}
    assert shrunken["recall"].value < rows["recall"].value - 0.2
    assert shrunken["sym_recall"].value == min(shrunken["recall"].value, shrunken["coverage"].value)
    for name in ("precision", "recall", "density", "coverage", "judge_top1", "teacher_agreement"):
        low, high = rows[name].ci95 or (np.nan, np.nan)
        assert low <= rows[name].value <= high
    assert rows["judge_top1"].value == 1 and rows["teacher_agreement"].value == 0
    assert 0 < rows["fd"].value < shrunken["fd"].value
    assert rows["kid"].value < shrunken["kid"].value
    assert {"class_precision", "class_recall", "class_density", "class_coverage", "vendi"} <= rows.keys()


def test_a_view_by_batches_is_the_view_of_all() -> None:
    images = images_of(EVERY, ["id"] * len(EVERY))
    seen = judge_images(labeled_batches(images), classifier(1), classifier())
    assert seen.judge_hits is not None and seen.judge_hits.all() and seen.teacher_hits.mean() == 1 / NUM_CLASSES
    assert seen.features[:, 0] == pytest.approx(EVERY)
    batches = list(starmap(LabeledBatch, zip(images.images.split(7), images.labels.split(7), strict=True)))
    again = judge_images(batches, classifier(1), classifier())
    assert all(np.allclose(one, other) for one, other in zip(seen, again, strict=True))


def test_what_the_teacher_said_at_drawing_is_not_asked_again() -> None:
    images = images_of(EVERY, ["id"] * len(EVERY))
    said = np.arange(len(EVERY)) % 2.0
    batch = LabeledBatch(images.images, images.labels, said)
    judged = judge_images([batch], classifier(1), classifier())
    assert np.array_equal(judged.teacher_hits, said) and judged.judge_hits is not None and judged.judge_hits.all()


def test_halves_share_no_image_and_every_class_is_in_both() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    one, other = split_halves(labels)
    assert sorted([*one, *other]) == list(range(8))
    assert set(labels[one]) == set(labels[other]) == {0, 1, 2}


def test_of_very_many_classes_it_is_not_counted_which_is_taken_for_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their square would be gigabytes; all other values stay as they are."""
    counted = evaluate_student(classifier(1), classifier(), TEST, "plain", 0)
    monkeypatch.setattr("prismkd.evaluation.rows.MAX_COUNTED_CLASSES", NUM_CLASSES - 1)
    found = evaluate_student(classifier(1), classifier(), TEST, "plain", 0)
    assert found.confusion == found.confusion_teacher == [] and len(counted.confusion) == NUM_CLASSES
    assert found.rows == counted.rows and found.domains == counted.domains
