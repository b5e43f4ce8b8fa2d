"""The embedded world as the benchmarks measure in it: a session without a run's folder, and a few short cuts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from prismkd import Config, Session
from prismkd.classifiers import Classifier
from prismkd.prompts import PromptPlan


def embedded_session(num_steps: int = 800, config: Config | None = None) -> Session:
    """A session of the embedded world, or of another ``config``, whose students take ``num_steps``."""
    config = config or Config()
    return Session(replace(config, distillation=replace(config.distillation, num_steps=num_steps)))


def plan_with_share(session: Session, seed: int, id_share: float | None) -> PromptPlan:
    """Plain prompts where ``id_share`` is None, else DPE's with this share of the teacher's own domain."""
    if id_share is None:
        return session.plan("plain", seed)
    return session.plan("prism", seed, replace(session.prompts, id_share=id_share))


def judge_of(session: Session) -> Classifier:
    """The network that guided nothing; the embedded world has one."""
    assert session.judge is not None
    return session.judge


def top1(session: Session, student: nn.Module, seed: int, teacher: Classifier | None = None) -> dict[str, float]:
    """A student's top-1 on every domain of the test."""
    rows = session.evaluate(student, seed, teacher)
    return {row.domain: row.value for row in rows if row.metric == "top1"}


def labels_of(plan: PromptPlan, count: int) -> Tensor:
    """The labels (count,) of a plan's first prompts."""
    return torch.tensor([plan[i].label for i in range(count)])
