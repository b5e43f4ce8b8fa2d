"""The embedded world as the benchmarks measure in it: a session without a run's folder, and a few short cuts.

The published comparison takes all 97 classes. Whatever compares many settings takes the subset ``pictograms-24``, at a
quarter of the price per image of a class: the setting is what differs there, and the world is the same.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from prismkd import Config, Session
from prismkd.classifiers import Classifier
from prismkd.config import AdaptationConfig, DistillationConfig, GuidanceConfig
from prismkd.data import LabeledImages
from prismkd.prompts import PromptPlan

# docs/pictograms.md, "What was tuned, and by what"
GUIDANCE = GuidanceConfig(energy="conditional", domains="own", log_snr_min=-2.2)
RECIPE = DistillationConfig(hard_label_weight=0.8)
SUBSET = Config(classes="pictograms-24", guidance=GUIDANCE, distillation=RECIPE)
NUM_STEPS, IMAGES_PER_CLASS = 600, 40  # of its students: what is compared is compared at equal numbers


def embedded_session(num_steps: int = NUM_STEPS, config: Config = SUBSET) -> Session:
    """A session of the embedded world's subset, or of another ``config``, whose students take ``num_steps``."""
    return Session(replace(config, distillation=replace(config.distillation, num_steps=num_steps)))


def plan_with_share(session: Session, seed: int, id_share: float | None) -> PromptPlan:
    """Plain prompts where ``id_share`` is None, else DPE's with this share of the teacher's own domain."""
    if id_share is None:
        return session.plan("plain", seed)
    return session.plan("prism", seed, replace(session.prompts, id_share=id_share))


def with_adaptation(session: Session, adaptation: AdaptationConfig) -> Session:
    """A session that trains adapters by other settings; all that the teacher decides is decided once for both."""
    changed = replace(session, config=replace(session.config, adaptation=adaptation))
    for decided in ("generator", "teacher", "calibration", "senses", "contents"):
        changed.__dict__[decided] = getattr(session, decided)
    return changed


def judge_of(session: Session) -> Classifier:
    """The network that guided nothing; the embedded world has one."""
    assert session.judge is not None
    return session.judge


def real_images(session: Session) -> LabeledImages:
    """The icons that the teacher was trained on; the embedded world has them."""
    assert session.real is not None
    return session.real


def top1(session: Session, student: nn.Module, seed: int, teacher: Classifier | None = None) -> dict[str, float]:
    """A student's top-1 on every domain of the test."""
    rows = session.evaluate(student, seed, teacher)
    return {row.domain: row.value for row in rows if row.metric == "top1"}


def labels_of(plan: PromptPlan, count: int) -> Tensor:
    """The labels (count,) of a plan's first prompts."""
    return torch.tensor([plan[i].label for i in range(count)])
