"""Agreement on images that were drawn for it: gray values say what a network of these tests answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prismkd.errors import UserError
from prismkd.evaluation.held_out import HeldOutImages, ask_teacher, evaluate_on_held_out, teacher_rows
from prismkd.evaluation.images import JudgedImages, describe_images
from prismkd.metrics import wilson_interval
from prismkd.metrics.hits import unpack_hits
from prismkd.shards import Sample

from .test_evaluation import NUM_CLASSES, classifier

COUNT = 70  # more than two batches
NUM_SHOWN = NUM_CLASSES - 1  # of the last class a network that is off by one can't be wrong


def held_out(domain: str = "synthetic plain", value: int = 10) -> HeldOutImages:
    """Image i shows class i; every seventh was prompted as another one."""
    samples = [
        Sample(i, np.full((4, 4), value * (i % NUM_SHOWN), np.uint8), (i + (i % 7 == 0)) % NUM_SHOWN,
               {"energy_after": -float(i)})
        for i in range(COUNT)
    ]  # fmt: skip
    return HeldOutImages(domain, lambda: iter(samples))


def test_the_teacher_is_measured_by_the_prompts_and_the_student_by_the_teacher() -> None:
    taught = ask_teacher(held_out(), classifier())
    (row,) = teacher_rows([taught])
    assert (row.method, row.domain, row.metric, row.n) == ("teacher", "synthetic plain", "prompted", COUNT)
    assert row.value == 60 / COUNT and row.ci95 == wilson_interval(60, COUNT)
    same, other = (evaluate_on_held_out(classifier(shift), [taught], "plain", 3) for shift in (0, 1))
    assert [r.value for r in same.rows + other.rows] == [1, 0]
    assert same.rows[0].ci95 == wilson_interval(COUNT, COUNT) and same.rows[0].seed == 3
    assert taught.references()["energy"] == {"after": [-float(i) for i in range(COUNT)]}


def test_hits_are_kept_image_by_image_and_mistakes_class_by_class() -> None:
    class Half(torch.nn.Module):
        """Says what the teacher says of dark images only."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            dark = images.mean(dim=(1, 2, 3))[:, None] < 9.5 * 10 / 255
            return torch.where(dark, classifier()(images), classifier(1)(images))

    sets = [ask_teacher(held_out(), classifier()), ask_teacher(held_out("synthetic diverse"), classifier())]
    found = evaluate_on_held_out(Half(), sets, "plain", 0)
    expected = [int(i % NUM_SHOWN < 10) for i in range(COUNT)]
    for taught in sets:
        details = found.domains[taught.images.domain]
        assert unpack_hits(details["hits"], details["n"]).tolist() == expected
        assert details["images"] == taught.fingerprint
    confusion = np.array(found.confusion_teacher)
    assert confusion.sum() == 2 * COUNT and np.trace(confusion) == 2 * sum(expected)
    assert confusion[12, 13] == 2 * len([i for i in range(COUNT) if i % NUM_SHOWN == 12])


def test_of_very_many_classes_mistakes_are_not_counted_class_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prismkd.evaluation.rows.MAX_COUNTED_CLASSES", NUM_CLASSES - 1)
    found = evaluate_on_held_out(classifier(), [ask_teacher(held_out(), classifier())], "plain", 0)
    assert found.confusion_teacher == [] and len(found.rows) == 1


def test_a_fingerprint_is_of_pixels_and_of_what_the_teacher_says() -> None:
    one = ask_teacher(held_out(), classifier()).fingerprint
    assert one == ask_teacher(held_out("elsewhere"), classifier()).fingerprint
    assert one != ask_teacher(held_out(), classifier(1)).fingerprint
    assert one != ask_teacher(held_out(value=11), classifier()).fingerprint


def test_without_any_set_nothing_is_measured() -> None:
    assert evaluate_on_held_out(classifier(), [], "plain", 0) == ([], [], {})


def test_logits_that_are_not_finite_are_refused() -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return classifier()(images) * torch.nan

    with pytest.raises(UserError, match="expected finite logits"):
        evaluate_on_held_out(Broken(), [ask_teacher(held_out(), classifier())], "plain", 0)


def test_images_alone_have_a_vendi_score_and_top1_where_the_judge_has_the_classes() -> None:
    labels = np.repeat(np.arange(3), 25)
    varied = JudgedImages(np.random.default_rng(0).normal(size=(75, 8)), labels, None, np.ones(75))
    alike = varied._replace(features=np.tile(np.eye(8)[0], (75, 1)))
    rows = {row.metric: row for row in describe_images(varied, "plain", 0)}
    assert set(rows) == {"vendi", "teacher_agreement"} and rows["vendi"].n == 60
    (same,) = [row.value for row in describe_images(alike, "plain", 0) if row.metric == "vendi"]
    assert same == pytest.approx(1) and rows["vendi"].value > 4
    judged = varied._replace(judge_hits=np.zeros(75))
    assert {row.metric: row.value for row in describe_images(judged, "plain", 0)}["judge_top1"] == 0
