"""The teacher as judge of prompts: which sense of a class name it means, and which contents keep the class.

A probe is an unguided image that is drawn only to be judged. The teacher is the only authority on what its classes
mean, since nothing here may look at a real image. The judge of the evaluation is another network and sees no probe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prismkd.classifiers import Classifier, features_of
from prismkd.config import DistillationConfig, PromptsConfig
from prismkd.config.seeds import derive
from prismkd.errors import UserError
from prismkd.prompts import Prompt, PromptPlan
from prismkd.prompts.allocation import Allocation, allocate, factors_by
from prismkd.prompts.content import PLAIN
from prismkd.prompts.grammar import compose
from prismkd.prompts.plan import PROBE_SEED
from prismkd.prompts.senses import Score, Sense, choose_wordings
from prismkd.prompts.styles import probe_phrase
from prismkd.shards import Sample, stacked
from prismkd.shards.samples import DELETE, noted
from prismkd.text import shortened

CONTENT_MARGIN = 1.0  # nats of log probability that a content may lose against the plain form
POOLED_CLASSES = 8  # that share a content, from which on their probes are judged together, too
UNSEEN = Score(-100.0, 0.0, 0.0, 0.0)  # where every probe was broken (not finite): worse than any that was seen
FEATURE_BATCH = 64  # images of a pilot in memory at once

Draw = Callable[[str, list[Prompt]], Iterable[Sample]]  # draws probe prompts; the text names the set, for storing it
TextFeatures = Callable[[list[str]], Tensor | None]  # (n, width) of n texts; None where there is no text encoder
Scores = Mapping[tuple[int, str], Score]  # by label and prompt


# --- senses ----------------------------------------------------------------------------------------------------------


def judge_senses(senses: Sequence[Sense], config: PromptsConfig, draw: Draw, seed: int = PROBE_SEED) -> list[Sense]:
    """Let the teacher choose each class's wording from probes of every candidate.

    Args:
        senses: with candidate wordings.
        config: the domains, and the number of probes of each wording.
        draw: draws the probes.
        seed: of the probes.
    """
    phrase = probe_phrase(config.domains)
    scores = scores_of(draw("senses", sense_prompts(senses, config.num_probes, phrase, seed)))
    return choose_wordings(senses, lambda label, text: scores.get((label, compose(phrase, PLAIN, text)), UNSEEN))


def sense_prompts(senses: Sequence[Sense], num_probes: int, phrase: str, seed: int = PROBE_SEED) -> list[Prompt]:
    """The prompts of ``num_probes`` probes of every wording of every class, in a style's ``phrase``."""
    texts = [[compose(phrase, PLAIN, wording.text) for wording in sense.wordings] for sense in senses]
    return _probes(senses, texts, num_probes, seed)


def _probes(senses: Sequence[Sense], texts: Iterable[list[str]], num_probes: int, seed: int) -> list[Prompt]:
    """``num_probes`` prompts of every text; ``texts`` has the texts of each class."""
    # Probe i has the same noise for all texts, so that their scores differ by the text and less by luck
    jobs = [(label, text, probe) for label, class_texts in enumerate(texts) for text in class_texts
            for probe in range(num_probes)]  # fmt: skip
    return [
        Prompt(index, label, senses[label].class_name, text, "probe", derive(seed, probe))
        for index, (label, text, probe) in enumerate(jobs)
    ]


def scores_of(samples: Iterable[Sample]) -> dict[tuple[int, str], Score]:
    """The teacher's score of each prompt, over its probes, by label and prompt."""
    verdicts: dict[tuple[int, str], list[tuple[float, float, bool]]] = {}
    for sample in samples:
        is_seen = noted(sample, "teacher_top1") == sample.label
        verdict = (noted(sample, "log_probability"), noted(sample, "energy_after"), is_seen)
        verdicts.setdefault((sample.label, noted(sample, "prompt")), []).append(verdict)
    return {key: _score(torch.tensor(rows, dtype=torch.float64)) for key, rows in verdicts.items()}


def _score(rows: Tensor) -> Score:
    """The score of one prompt from its probes' log probability, energy and agreement (num_probes, 3)."""
    mean = rows.mean(0).tolist()
    # The standard error of the mean, s / sqrt(n). A single probe has none that could be known; 0 lets its mean decide.
    error = float(rows[:, 0].std() / math.sqrt(len(rows))) if len(rows) > 1 else 0.0
    return Score(mean[0], error, mean[1], mean[2])


# --- contents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DroppedContent:
    """A content that isn't used, and the reason, for ``contents.json`` and the report."""

    class_name: str
    content: str
    reason: str


def judge_contents(
    senses: Sequence[Sense],
    contents: Sequence[Sequence[str]],
    config: PromptsConfig,
    text_features: TextFeatures,
    draw: Draw,
) -> tuple[list[list[str]], list[DroppedContent]]:
    """Drop the contents that lose their class: those that the text encoder, then the teacher, takes for something else.

    Args:
        senses: chosen, one per class.
        contents: of every class.
        config: the domains, and the number of probes of each content.
        text_features: of the generator's text encoder.
        draw: draws the probes.

    Returns:
        Every class's remaining contents, at least one each, and what was dropped.
    """
    phrase = probe_phrase(config.domains)
    # The text encoder first: it costs no images
    near, far_dropped = keep_near_contents(senses, contents, text_features)
    scores = scores_of(draw("contents", content_prompts(senses, near, config.num_content_probes, phrase)))
    kept, lost_dropped = keep_contents(senses, near, scores, phrase)
    return kept, far_dropped + lost_dropped


def content_prompts(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], num_probes: int, phrase: str
) -> list[Prompt]:
    """Probes of every content of every class, and of the plain form, with which the others are compared."""
    texts = [
        [compose(phrase, content, sense.text) for content in dict.fromkeys((PLAIN, *class_contents))]
        for sense, class_contents in zip(senses, contents, strict=True)
    ]
    return _probes(senses, texts, num_probes, PROBE_SEED)


def keep_contents(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], scores: Scores, phrase: str
) -> tuple[list[list[str]], list[DroppedContent]]:
    """Drop the contents in whose probes the teacher doesn't find the class.

    With L the mean log probability of the class and s its standard error, a content is dropped where

    L + sqrt(s^2 + s_plain^2) < min(L_plain - CONTENT_MARGIN, log 1/2):

    clearly below the plain form, and below even odds. The first alone would drop harmless variation of a class that the
    teacher is sure of, the second alone everything of a class that it is never sure of. A class has few probes of a
    content. So the rule holds for the classes together as well, with the means over all that share the content and the
    standard error of their differences: a content that loses most of them is dropped for each.

    Args:
        senses: chosen, one per class.
        contents: of every class.
        scores: of ``content_prompts``; a content without one had no finite image, and is dropped.
        phrase: the style that the probes had.

    Returns:
        Every class's remaining contents, at least the plain form, and what was dropped.
    """
    found = [
        {content: scores.get((label, compose(phrase, content, sense.text)), UNSEEN)
         for content in (PLAIN, *class_contents)}
        for label, (sense, class_contents) in enumerate(zip(senses, contents, strict=True))
    ]  # fmt: skip
    lost_by_most = _lost_by_most(found)
    kept: list[list[str]] = []
    dropped = []
    for sense, class_contents, score in zip(senses, contents, found, strict=True):
        plain = score[PLAIN]
        bound = _bound(plain.log_probability)
        lost = {content: f"the teacher's log probability is {s.log_probability:.2f}, clearly below {bound:.2f}"
                for content, s in score.items()
                if content != PLAIN and s.log_probability + math.hypot(s.error, plain.error) < bound}  # fmt: skip
        lost |= {content: reason for content, reason in lost_by_most.items() if content in score}
        kept.append([content for content in class_contents if content not in lost] or [PLAIN])
        dropped += [DroppedContent(sense.class_name, content, reason) for content, reason in lost.items()]
    return kept, dropped


def _bound(plain: float) -> float:
    """The log probability below which a content loses, given that of the plain form."""
    return min(plain - CONTENT_MARGIN, math.log(0.5))


def _lost_by_most(found: Sequence[Mapping[str, Score]]) -> dict[str, str]:
    """The contents that lose over all classes that share them, and the reason; ``found`` has each class's scores."""
    lost = {}
    for content in dict.fromkeys(content for score in found for content in score if content != PLAIN):
        pairs = np.array([(score[content].log_probability, score[PLAIN].log_probability)
                          for score in found if content in score])  # fmt: skip
        if len(pairs) < POOLED_CLASSES:
            continue
        mean, plain = pairs.mean(0)
        error = np.subtract(*pairs.T).std(ddof=1) / math.sqrt(len(pairs))  # each class draws both from the same noise
        if mean + error < _bound(plain):
            lost[content] = (f"the teacher's log probability is {mean:.2f} over {len(pairs)} classes, clearly below "
                             f"{_bound(plain):.2f}")  # fmt: skip
    return lost


def keep_near_contents(
    senses: Sequence[Sense], contents: Sequence[Sequence[str]], text_features: TextFeatures
) -> tuple[list[list[str]], list[DroppedContent]]:
    """Drop the contents that the generator's text encoder finds nearer to another class's plain form than to its own's.

    Args:
        senses: chosen, one per class.
        contents: of every class.
        text_features: of the text encoder; where there is none, all contents are kept.

    Returns:
        Every class's remaining contents, at least the plain form, and what was dropped.
    """
    class_features = text_features([compose("{}", PLAIN, sense.text) for sense in senses])
    if class_features is None:
        return [list(class_contents) for class_contents in contents], []
    # By the cosine after taking off the mean: text features lie in a narrow cone, where every cosine is near 1
    center = class_features.mean(0)
    class_features = F.normalize(class_features - center, dim=1)
    kept: list[list[str]] = []
    dropped = []
    for label, (sense, class_contents) in enumerate(zip(senses, contents, strict=True)):
        features = text_features([compose("{}", content, sense.text) for content in class_contents])
        assert features is not None
        nearest = (F.normalize(features - center, dim=1) @ class_features.T).argmax(1).tolist()
        far = {content: other for content, other in zip(class_contents, nearest, strict=True)
               if other != label and content != PLAIN}  # fmt: skip
        kept.append([content for content in class_contents if content not in far] or [PLAIN])
        for content, other in far.items():
            reason = f"the text encoder finds it nearer to {senses[other].class_name}"
            dropped.append(DroppedContent(sense.class_name, content, reason))
    return kept, dropped


# --- allocation ------------------------------------------------------------------------------------------------------


def judge_pilot(teacher: Classifier, device: torch.device, plan: PromptPlan, pilot: Iterable[Sample]) -> Allocation:
    """Divide the images after a pilot by what the pilot leaves unseen in the teacher's features.

    Only the features of all images are in memory, and one batch of images.

    Args:
        teacher: on ``device``.
        device: where it computes.
        plan: that the pilot was drawn from.
        pilot: its samples, with the metadata that synthesis writes.
    """
    names = [style.name for style in plan.styles]
    features, labels, styles, accepted = [], [], [], []
    for batch in _batches(iter(pilot)):
        images = torch.from_numpy(stacked(batch)).to(device)
        with torch.no_grad():
            features.append(features_of(teacher, images).double().cpu().numpy())
        labels += [sample.label for sample in batch]
        styles += [_place(noted(sample, "style"), names, sample.index) for sample in batch]
        accepted += [noted(sample, "teacher_top1") == sample.label for sample in batch]
    return allocate(np.concatenate(features), np.array(labels), np.array(styles), np.array(accepted),
                    len(plan.subjects), _style_weights(plan))  # fmt: skip


def judge_round(
    guide: Classifier, teacher: Classifier, device: torch.device, plan: PromptPlan, samples: Iterable[Sample],
    recipe: DistillationConfig,
) -> dict[str, Any]:  # fmt: skip
    """Divide the next round's images by what the guide has learned less of.

    An image's disagreement is ``(1 - a) KL(teacher || guide) + a CE(guide, label)``, without views and at temperature
    1: what the guide was taught and does not say. With ``weight_by_agreement`` a is the image's own.

    Args:
        guide: a student of these images; it is moved to ``device``.
        teacher: on ``device``.
        device: where they compute.
        plan: that the images were drawn from, with what earlier rounds have decided.
        samples: of all rounds so far, with the metadata that synthesis writes.
        recipe: of the guide, which has a.

    Returns:
        ``class_shares``, ``style_factors``, ``content_factors`` by content, and the mean ``disagreement``.
    """
    names, guide = [style.name for style in plan.styles], guide.to(device)
    values, labels, styles, contents = [], [], [], list[str]()
    for batch in _batches(iter(samples)):
        images = torch.from_numpy(stacked(batch)).to(device)
        targets = torch.tensor([sample.label for sample in batch], device=device)
        with torch.no_grad():
            # Of several teachers those answer that know the class, as in the training
            own, taught = guide(images).log_softmax(1), teacher(images, targets).log_softmax(1)
        divergence, trust = (taught.exp() * (taught - own)).sum(1), torch.full_like(own[:, 0], 1.0)
        if recipe.weight_by_agreement:
            trust = taught.gather(1, targets[:, None])[:, 0].exp()
        trust = (1 - recipe.hard_label_weight) * trust
        found = trust * divergence + (1 - trust) * F.nll_loss(own, targets, reduction="none")
        values.append(found.double().cpu().numpy())
        labels += [sample.label for sample in batch]
        styles += [_place(noted(sample, "style"), names, sample.index) for sample in batch]
        contents += [plan.content(sample.index) for sample in batch]
    joined, even = np.concatenate(values), np.full(len(plan.subjects), 1 / len(plan.subjects))
    found, place, counts = np.unique(contents, return_inverse=True, return_counts=True)
    return {
        "class_shares": (even * factors_by(joined, np.array(labels), even)).tolist(),
        "style_factors": factors_by(joined, np.array(styles), _style_weights(plan)).tolist(),
        "content_factors": dict(zip(found.tolist(), factors_by(joined, place, counts / len(joined)), strict=True)),
        "disagreement": float(joined.mean()),
    }


def _style_weights(plan: PromptPlan) -> np.ndarray:
    """The mean over classes, since one class may allow fewer styles than another."""
    return np.array([subject.weights for subject in plan.subjects]).mean(0)


def _place(style: str, names: list[str], index: int) -> int:
    if style not in names:
        raise UserError(f"expected a style of the plan at image {index}, got {shortened(style)}; {DELETE}")
    return names.index(style)


def _batches(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Lists of ``FEATURE_BATCH`` samples; the last may have fewer."""
    while batch := list(islice(samples, FEATURE_BATCH)):
        yield batch
