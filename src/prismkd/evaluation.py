"""Student + data to metrics, and the image set itself against real references in features that never guided it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prismkd.data import LabelledImages
from prismkd.metrics import bootstrap_interval, correct, expected_calibration_error, prdc, vendi_score
from prismkd.students import predict
from prismkd.teachers import Classifier

VENDI_IMAGES_PER_CLASS = 20  # the Vendi score grows with the count, so every set is cut to the same


@dataclass(frozen=True)
class Row:
    """One measured value, as it stands in ``metrics.json``."""

    method: str
    seed: int
    domain: str
    metric: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        interval = None if self.ci95 is None else [round(bound, 5) for bound in self.ci95]
        return {"method": self.method, "seed": self.seed, "domain": self.domain, "metric": self.metric,
                "value": round(self.value, 5), "n": self.n, "ci95": interval}  # fmt: skip


def evaluate_student(
    student: torch.nn.Module, teacher: Classifier, test: LabelledImages, method: str, seed: int
) -> tuple[list[Row], list[list[int]]]:
    """Top-1, agreement with the teacher and calibration error per domain, and the confusion matrix on ``id``.

    Returns:
        Rows, and counts [true class][predicted class].
    """
    logits, teacher_logits = predict(student, test.images).numpy(), predict(teacher, test.images).numpy()
    labels = test.labels.numpy()
    rows = []
    for domain in domain_order(test.domains):
        mask = test.domains == domain
        hit = correct(logits[mask], labels[mask])
        same = correct(logits[mask], teacher_logits[mask].argmax(1))
        count = int(mask.sum())
        rows += [
            _mean_row(method, seed, domain, "top1", hit),
            _mean_row(method, seed, domain, "agreement", same),
            Row(method, seed, domain, "ece", expected_calibration_error(logits[mask], labels[mask]), count),
        ]
    matrix = np.zeros((logits.shape[1], logits.shape[1]), dtype=int)
    mask = test.domains == "id"
    np.add.at(matrix, (labels[mask], logits[mask].argmax(1)), 1)
    return rows, matrix.tolist()


def evaluate_images(
    images: Tensor, labels: Tensor, teacher: Classifier, judge: Classifier, real: LabelledImages, k: int,
    method: str, seed: int
) -> list[Row]:  # fmt: skip
    """Precision, recall, density, coverage and Vendi in the judge's features; judge's and teacher's verdicts.

    Args:
        images: (n, channels, height, width) in [0, 1], with their intended ``labels`` (n,).
        teacher: the teacher, for its agreement with the intended labels.
        judge: another network that never guided anything; its features are the metric space.
        real: held-out real images.
        k: neighbors.
        method: name in the rows.
        seed: seed in the rows.
    """
    features, real_features = embed(judge, images), embed(judge, real.images)
    values = prdc(real_features, features, k)
    per_class = [
        vendi_score(own[:VENDI_IMAGES_PER_CLASS])
        for label in range(teacher.num_classes)
        if len(own := features[labels.numpy() == label]) >= VENDI_IMAGES_PER_CLASS
    ]
    rows = [Row(method, seed, "images", name, value, len(images)) for name, value in values._asdict().items()]
    if per_class:
        rows.append(
            Row(method, seed, "images", "vendi", float(np.mean(per_class)), VENDI_IMAGES_PER_CLASS * len(per_class))
        )
    for name, network in (("judge_top1", judge), ("teacher_agreement", teacher)):
        rows.append(_mean_row(method, seed, "images", name, correct(predict(network, images).numpy(), labels.numpy())))
    return rows


@torch.no_grad()
def embed(judge: Classifier, images: Tensor) -> np.ndarray:
    """The judge's penultimate features (n, width)."""
    return torch.cat([judge.features(batch) for batch in images.split(512)]).numpy()


def domain_order(domains: np.ndarray) -> list[str]:
    """``id`` first, then the shifted domains by name."""
    return sorted(set(domains.tolist()), key=lambda name: (name != "id", name))


def _mean_row(method: str, seed: int, domain: str, metric: str, values: np.ndarray) -> Row:
    interval = bootstrap_interval(values, seed=0) if len(values) > 1 else None
    return Row(method, seed, domain, metric, float(values.mean()), len(values), interval)
