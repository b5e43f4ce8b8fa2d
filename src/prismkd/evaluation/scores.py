"""A student's scores in one call: test images in, numbers with their intervals out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prismkd.classes import ClassName
from prismkd.classes.lists import as_classes, names_of
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import Classifier
from prismkd.classifiers.classifier import answer
from prismkd.config import EvaluationConfig
from prismkd.data import LabeledImages, load_labeled_images
from prismkd.errors import UserError
from prismkd.evaluation.reading import read_for
from prismkd.evaluation.rows import device_of
from prismkd.evaluation.students import TestImages, evaluate_student, logits_of

Source = str | Path | LabeledImages | tuple[Tensor | np.ndarray, Tensor | np.ndarray | Sequence[int]]
COLUMNS = ("top1", "top5", "ece", "agreement")  # of the printed table


class Score(NamedTuple):
    """One measured value.

    Attributes:
        value: a fraction in [0, 1] (not a percentage); of ``vanished_classes`` and ``present_classes`` a count.
        n: test images that it is of.
        ci95: bootstrap interval over these images; None for values that aren't a mean over images.
    """

    value: float
    n: int
    ci95: tuple[float, float] | None


class Scores(dict[str, dict[str, Score]]):
    """Scores by domain and metric: ``scores["id"]["top1"].value``. Printed, they are a table.

    The domain ``id``, the teacher's own, comes first. The metrics are ``top1``; ``top5`` where more than five classes
    compete; ``ece``, the expected calibration error of 15 bins (Guo et al. 2017); ``agreement`` with the teacher's
    class, where there is a teacher; ``vanished_classes``, present in the domain and never predicted; and
    ``present_classes`` where only these compete.
    """

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Plain data for JSON: domain, metric, then value, n and ci95."""
        return {domain: {name: score._asdict() for name, score in scores.items()} for domain, scores in self.items()}

    def __str__(self) -> str:
        columns = [name for name in COLUMNS if any(name in scores for scores in self.values())]
        rows = [["domain", "images", *columns]]
        for domain, scores in self.items():
            rows.append([domain, str(scores["top1"].n), *[_cell(scores.get(name)) for name in columns]])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in lines)


def evaluate(
    student: nn.Module,
    source: Source,
    *,
    classes: str | Sequence[str | ClassName] | int,
    teacher: nn.Module | None = None,
    shifted: Mapping[str, Source] | None = None,
    image_size: int = 0,
    restrict_below: float = EvaluationConfig.restrict_below,
) -> Scores:
    """Measure a classifier on labeled test images, domain by domain.

    Args:
        student: images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes), on any device: what
            ``distill`` and ``load_teacher`` return, or a module that does its own preprocessing.
        source: a folder of class folders, of domain folders with class folders (PACS, Office-Home, DomainNet), of
            webdataset shards, Parquet files, a data set that Hugging Face saved, or a split list; loaded
            ``LabeledImages``; or ``(images, labels)``: (n, channels, height, width) as uint8 or as float in [0, 1],
            and (n,). Images without a domain of their own are ``id``.
        classes: a built-in list (``imagenet-1k``, ``pacs``, ...), a class list file, names in the order of the
            student's outputs, or their number where the test set's labels are numbers.
        teacher: as the student; with one the agreement is measured too.
        shifted: further test sets by the name of their domain, such as ``{"sketch": "imagenet-sketch/"}``.
        image_size: the shorter side is resized to it and the middle cut out before a network sees the image, to
            measure at a lower resolution. 0 leaves images as they are: a network that says how it resizes and cuts
            (``Classifier.preprocess``) sees files as its own library would read them, and a student that doesn't sees
            what its teacher sees.
        restrict_below: share of the classes, in [0, 1]: a domain with a smaller share of them, as ImageNet-R and -A, is
            evaluated among its own (Hendrycks et al. 2021); 0 is off.

    Returns:
        Scores with the number of images and 95 % bootstrap intervals (1,000 resamples). These cover the choice of the
        test images, not the randomness of training, which takes several seeds.

    Raises:
        UserError: nothing there, classes that aren't these, images that don't decode, or other numbers of outputs.
    """
    labels = ClassLabels(names_of(as_classes(classes))) if not isinstance(classes, int) else classes
    num_classes = labels if isinstance(labels, int) else len(labels)
    usual = _input_size(student) or _input_size(teacher)
    parts = [_load(source, labels, image_size, usual)]
    for name, further in (shifted or {}).items():
        part = _load(further, labels, image_size, usual)
        parts.append(replace(part, domains=np.full(len(part.labels), name)))
    scores = Scores()
    for part in parts:
        found = _evaluate(student, teacher, part, num_classes, restrict_below)
        for domain in scores.keys() & found.keys():
            raise UserError(f"expected another name for a shifted set than {domain!r}, which is taken; rename it")
        scores |= found
    return scores


@dataclass(frozen=True)
class _InMemory:
    """Test images that are arrays."""

    pixels: Tensor
    labels: Tensor
    domains: np.ndarray

    def batches(self, batch_size: int, /) -> Iterable[Tensor]:
        """float32 (batch, channels, height, width) in [0, 1]."""
        for batch in self.pixels.split(batch_size):
            yield batch.float().div(255) if batch.dtype == torch.uint8 else batch.float()


def _input_size(network: nn.Module | None) -> int | None:
    return network.input_size if isinstance(network, Classifier) else None


def _load(
    source: Source, classes: ClassLabels | int, image_size: int, usual_size: int | None
) -> LabeledImages | _InMemory:
    """The test images of a source, whatever it is."""
    if isinstance(source, LabeledImages):
        return source
    if isinstance(source, str | Path):
        return load_labeled_images(source, classes, image_size, usual_size)
    pixels, labels = (torch.as_tensor(values) for values in source)
    if pixels.ndim != 4 or len(pixels) == 0 or labels.shape != pixels.shape[:1] or labels.is_floating_point():
        raise UserError(
            f"expected images (n, channels, height, width) and labels (n,) as integers, got {tuple(pixels.shape)} and "
            f"{labels.dtype} {tuple(labels.shape)}; give each image its class"
        )
    return _InMemory(pixels, labels.cpu().long(), np.full(len(pixels), "id"))


def _evaluate(
    student: nn.Module, teacher: nn.Module | None, test: TestImages, num_classes: int, restrict_below: float
) -> dict[str, dict[str, Score]]:
    """Scores of one set of test images."""
    low, high = int(test.labels.min()), int(test.labels.max())
    if not 0 <= low <= high < num_classes:
        raise UserError(
            f"expected labels from 0 to {num_classes - 1}, got {low} to {high}; make the labels and `classes` fit"
        )
    _check_outputs(student, "student", test, num_classes, teacher)
    teacher_logits = None
    if teacher is not None:
        _check_outputs(teacher, "teacher", test, num_classes)
        teacher_logits = logits_of(teacher, test)
    scores = dict[str, dict[str, Score]]()
    for row in evaluate_student(student, teacher, test, "", 0, teacher_logits, restrict_below).rows:
        scores.setdefault(row.domain, {})[row.metric] = Score(row.value, row.n, row.ci95)
    return scores


def _check_outputs(
    network: nn.Module, name: str, test: TestImages, num_classes: int, teacher: nn.Module | None = None
) -> None:
    """Show it the first image."""
    seen = read_for(network, test, teacher) if isinstance(test, LabeledImages) else test
    image = next(iter(seen.batches(1)))
    remedy = "set image_size, or give it its preprocessing (prismkd.classifiers.as_teacher)"
    logits = answer(network, image.to(device_of(network)), name, remedy)
    if logits.shape[1] != num_classes:
        raise UserError(
            f"expected logits {(1, num_classes)} of the {name}, got {tuple(logits.shape)}; make it and `classes` fit"
        )


def _cell(score: Score | None) -> str:
    """A value with its interval, or with none."""
    if score is None:
        return ""
    interval = "" if score.ci95 is None else f" [{score.ci95[0]:.3f}, {score.ci95[1]:.3f}]"
    return f"{score.value:.3f}{interval}"
