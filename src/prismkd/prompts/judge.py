"""The teacher as judge of prompts: which sense of a class name it means, which contents keep the class, and what a
pilot leaves unseen. Nothing here looks at a real image.

``draw`` stands for whatever makes images of probe prompts: a name for the set, and prompts, to samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prismkd.classifiers import Classifier
from prismkd.config import PromptsConfig
from prismkd.prompts import Prompt, PromptPlan
from prismkd.prompts.allocation import Allocation, allocate
from prismkd.prompts.content import PLAIN
from prismkd.prompts.grammar import compose
from prismkd.prompts.plan import PROBE_SEED, image_seed
from prismkd.prompts.senses import Score, Sense, choose
from prismkd.prompts.styles import own_phrase
from prismkd.shards import Sample, to_array

CONTENT_MARGIN = 1.0  # nats of log probability that a content may lose against the plain form
UNSEEN = Score(-100.0, 0.0, 0.0, 0.0)  # of probes that are all broken
FEATURE_BATCH = 64

Draw = Callable[[str, list[Prompt]], Iterable[Sample]]
TextFeatures = Callable[[list[str]], Tensor | None]  # (n, width) of n texts; None where there is no text encoder
Scores = Mapping[tuple[int, str], Score]  # by label and prompt


# --- senses ----------------------------------------------------------------------------------------------------------


def judge_senses(senses: Sequence[Sense], config: PromptsConfig, draw: Draw, seed: int = PROBE_SEED) -> list[Sense]:
    """Let the teacher choose each class's wording from probes of every candidate."""
    phrase = own_phrase(config.domains)
    scores = scores_of(draw("senses", sense_prompts(senses, config.num_probes, phrase, seed)))
    return choose(senses, lambda label, text: scores.get((label, compose(phrase, PLAIN, text)), UNSEEN))


def sense_prompts(senses: Sequence[Sense], num_probes: int, phrase: str, seed: int = PROBE_SEED) -> list[Prompt]:
    """Probes of every wording, in a style's ``phrase``; probe i has the same noise for all of them."""
    texts = [[compose(phrase, PLAIN, w.text) for w in sense.wordings] for sense in senses]
    return _probes(senses, texts, num_probes, seed)


def _probes(senses: Sequence[Sense], texts: Iterable[list[str]], num_probes: int, seed: int) -> list[Prompt]:
    wanted = [(label, text, probe) for label, own in enumerate(texts) for text in own for probe in range(num_probes)]
    return [
        Prompt(index, label, senses[label].class_name, text, "probe", image_seed(seed, probe))
        for index, (label, text, probe) in enumerate(wanted)
    ]


def scores_of(samples: Iterable[Sample]) -> dict[tuple[int, str], Score]:
    """What the teacher says of each prompt's probes, by label and prompt."""
    groups: dict[tuple[int, str], list[tuple[float, float, bool]]] = {}
    for sample in samples:
        row = sample.metadata
        said = (row["log_probability"], row["energy_after"], row["teacher_top1"] == sample.label)
        groups.setdefault((sample.label, row["prompt"]), []).append(said)
    return {key: _score(torch.tensor(rows, dtype=torch.float64)) for key, rows in groups.items()}


def _score(rows: Tensor) -> Score:
    """The means over probes, (n, 3) of log probability, energy and agreement."""
    mean = rows.mean(0).tolist()
    error = float(rows[:, 0].std() / math.sqrt(len(rows))) if len(rows) > 1 else 0.0
    return Score(mean[0], error, mean[1], mean[2])


# --- contents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dropped:
    """A content that is not used, and why."""

    class_name: str
    content: str
    reason: str


def judge_contents(
    senses: Sequence[Sense],
    contents: Sequence[Sequence[str]],
    config: PromptsConfig,
    text_features: TextFeatures,
    draw: Draw,
) -> tuple[list[list[str]], list[Dropped]]:
    """The contents that neither the generator's text encoder nor the teacher finds to lose their class."""
    phrase = own_phrase(config.domains)
    near, strayed = keep_near_contents(senses, contents, text_features)
    scores = scores_of(draw("contents", content_prompts(senses, near, config.num_content_probes, phrase)))
    kept, lost = keep_contents(senses, near, scores, phrase)
    return kept, strayed + lost


def content_prompts(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], num_probes: int, phrase: str
) -> list[Prompt]:
    """Probes of every content of every class, the plain form among them."""
    texts = [
        [compose(phrase, content, sense.text) for content in dict.fromkeys((PLAIN, *own))]
        for sense, own in zip(senses, contents, strict=True)
    ]
    return _probes(senses, texts, num_probes, PROBE_SEED)


def keep_contents(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], scores: Scores, phrase: str
) -> tuple[list[list[str]], list[Dropped]]:
    """Drop the contents whose probes the teacher takes for the class less surely than the plain form's, and than even.

    What could be chance, by the standard error of the difference, is kept.

    Args:
        senses: chosen, one per class.
        contents: of every class.
        scores: of ``content_prompts``; a content without one had no finite image, and is dropped.
        phrase: the style that the probes had.
    """
    kept: list[list[str]] = []
    dropped = []
    for label, (sense, own) in enumerate(zip(senses, contents, strict=True)):
        score = {c: scores.get((label, compose(phrase, c, sense.text)), UNSEEN) for c in (PLAIN, *own)}
        plain = score[PLAIN]
        least = min(plain.log_probability - CONTENT_MARGIN, math.log(0.5))
        lost = {c: s.log_probability for c, s in score.items()
                if c != PLAIN and s.log_probability + math.hypot(s.error, plain.error) < least}  # fmt: skip
        kept.append([c for c in own if c not in lost] or [PLAIN])
        for content, found in lost.items():
            reason = f"the teacher's log probability is {found:.2f}, clearly below {least:.2f}"
            dropped.append(Dropped(sense.class_name, content, reason))
    return kept, dropped


def keep_near_contents(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], text_features: TextFeatures
) -> tuple[list[list[str]], list[Dropped]]:
    """Drop the contents that the generator's text encoder takes for another class."""
    names = text_features([compose("{}", PLAIN, sense.text) for sense in senses])
    if names is None:
        return [list(own) for own in contents], []
    center = names.mean(0)
    names = F.normalize(names - center, dim=1)
    kept: list[list[str]] = []
    dropped = []
    for label, (sense, own) in enumerate(zip(senses, contents, strict=True)):
        features = text_features([compose("{}", content, sense.text) for content in own])
        assert features is not None
        nearest = (F.normalize(features - center, dim=1) @ names.T).argmax(1).tolist()
        strayed = {c: found for c, found in zip(own, nearest, strict=True) if found != label and c != PLAIN}
        kept.append([c for c in own if c not in strayed] or [PLAIN])
        for content, found in strayed.items():
            reason = f"the text encoder finds it nearer to {senses[found].class_name}"
            dropped.append(Dropped(sense.class_name, content, reason))
    return kept, dropped


# --- allocation ------------------------------------------------------------------------------------------------------


def judge_pilot(viewer: Classifier, device: torch.device, plan: PromptPlan, pilot: Iterable[Sample]) -> Allocation:
    """What a pilot leaves unseen, in the teacher's features; holds no more than a batch of images.

    Args:
        viewer: the teacher, on ``device``.
        device: where it computes.
        plan: that the pilot was drawn from.
        pilot: with the metadata that synthesis writes.
    """
    names = [style.name for style in plan.styles]
    features, labels, styles, accepted = [], [], [], []
    for batch in _batches(iter(pilot)):
        images = torch.stack([torch.from_numpy(to_array(sample)) for sample in batch]).to(device)
        with torch.no_grad():
            features.append(viewer.features(images).flatten(1).double().cpu().numpy())
        labels += [sample.label for sample in batch]
        styles += [names.index(sample.metadata["style"]) for sample in batch]
        accepted += [sample.metadata["teacher_top1"] == sample.label for sample in batch]
    weights = np.array([subject.weights for subject in plan.subjects]).mean(0)
    return allocate(np.concatenate(features), np.array(labels), np.array(styles), np.array(accepted),
                    len(plan.subjects), weights)  # fmt: skip


def _batches(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, FEATURE_BATCH)):
        yield batch
