"""Students on synthetic images that none of them learned from: where there are no test images, these compare them.

Nobody knows the true class of a synthetic image, so nothing here is an accuracy. Measured is how often a student says
what its teacher says, and how often the teacher sees the class that was prompted. Images of plain prompts look like
those that most students learn from; diverse ones ask more of a student.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prismkd.classifiers import predict
from prismkd.evaluation.rows import Row, count_pairs, device_of, no_counts
from prismkd.metrics import correct, wilson_interval
from prismkd.metrics.hits import pack_hits
from prismkd.shards import Sample, stacked
from prismkd.shards.samples import noted

BATCH = 32  # images per forward pass, which may have 1,024 pixels per side; results don't depend on it


@dataclass(frozen=True)
class HeldOutImages:
    """One set of them.

    Attributes:
        domain: its name in the rows.
        read: gives the samples in their order, anew at each call.
    """

    domain: str
    read: Callable[[], Iterable[Sample]]

    def batches(self) -> Iterator[Tensor]:
        """The images in order, float32 (batch, channels, height, width) in [0, 1]."""
        samples = iter(self.read())
        while batch := list(islice(samples, BATCH)):
            yield torch.from_numpy(stacked(batch))

    def logits_of(self, network: nn.Module) -> np.ndarray:
        """A network's logits (n, num_classes) of the whole images, which its own preprocessing resizes and cuts."""
        device = device_of(network)
        return torch.cat([predict(network, images.to(device)).cpu() for images in self.batches()]).numpy()


@dataclass(frozen=True)
class TaughtImages:
    """A set of held-out images with what the teacher says of them.

    Attributes:
        images: the set.
        classes: the teacher's class of each image, (n,).
        prompted: (n,), 1.0 where that is the class that was prompted, else 0.0.
        energies: each image's free energy under the teacher, as it was when the image was drawn.
        fingerprint: of pixels and of the teacher's classes: only students with the same ones can be compared.
    """

    images: HeldOutImages
    classes: np.ndarray
    prompted: np.ndarray
    energies: list[float]
    fingerprint: str

    def references(self) -> dict[str, Any]:
        """What is known of the set without a student, as plain data: n, energy, prompted (packed), images."""
        return {"n": len(self.classes), "energy": {"after": self.energies}, "prompted": pack_hits(self.prompted),
                "images": self.fingerprint}  # fmt: skip


def ask_teacher(images: HeldOutImages, teacher: nn.Module) -> TaughtImages:
    """Show the teacher a set of held-out images.

    Args:
        images: the set.
        teacher: images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes).

    Raises:
        UserError: logits that aren't finite.
    """
    # Asked anew, as students are: of several teachers, those that answered at the drawing were told the prompted class.
    logits, digest = images.logits_of(teacher), hashlib.sha256()
    labels, energies = list[int](), list[float]()
    for sample in images.read():
        digest.update(sample.image.tobytes())
        labels.append(sample.label)
        energies.append(noted(sample, "energy_after"))
    prompted = correct(logits, np.array(labels))
    digest.update(logits.argmax(1).astype("<i8").tobytes())
    return TaughtImages(images, logits.argmax(1), prompted, energies, digest.hexdigest())


def teacher_rows(sets: Sequence[TaughtImages]) -> list[Row]:
    """How often the teacher sees the prompted class, in each set."""
    return [_share_row("teacher", 0, taught.images.domain, "prompted", taught.prompted) for taught in sets]


class HeldOutEvaluation(NamedTuple):
    """A student's results on held-out images.

    Attributes:
        rows: the values for ``metrics.json``.
        confusion_teacher: counts [class that the teacher predicts][class that the student predicts], over all sets;
            empty without any, and where there are too many classes to count.
        domains: by domain n, and in ``hits`` on which images student and teacher agree, and the images' fingerprint.
    """

    rows: list[Row]
    confusion_teacher: list[list[int]]
    domains: dict[str, dict[str, Any]]


def evaluate_on_held_out(student: nn.Module, sets: Sequence[TaughtImages], method: str, seed: int) -> HeldOutEvaluation:
    """How often a student says what its teacher says.

    Args:
        student: images (batch, channels, height, width) in [0, 1] to logits (batch, num_classes).
        sets: held-out images, with the teacher's answers.
        method: name in the rows.
        seed: seed in the rows.

    Raises:
        UserError: logits that aren't finite.
    """
    rows, domains, confusion = list[Row](), dict[str, dict[str, Any]](), np.zeros((0, 0), dtype=int)
    for taught in sets:
        logits = taught.images.logits_of(student)
        hits = correct(logits, taught.classes)
        rows.append(_share_row(method, seed, taught.images.domain, "agreement", hits))
        domains[taught.images.domain] = {"n": len(hits), "hits": pack_hits(hits), "images": taught.fingerprint}
        confusion = confusion if confusion.size else no_counts(logits.shape[1])
        count_pairs(confusion, taught.classes, logits.argmax(1))
    return HeldOutEvaluation(rows, confusion.tolist(), domains)


def _share_row(method: str, seed: int, domain: str, metric: str, hits: np.ndarray) -> Row:
    """The share of hits (n,). Wilson's interval, since students often agree on all of the few plain images."""
    interval = wilson_interval(int(hits.sum()), len(hits))
    return Row(method, seed, domain, metric, float(hits.mean()), len(hits), interval)
