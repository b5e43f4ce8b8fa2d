"""The embedded world opened for measurements: draw, distil and evaluate without a run directory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from prismkd.assets import asset
from prismkd.config import Config, DistillationConfig, GuidanceConfig
from prismkd.data import LabelledImages, load_labelled_images
from prismkd.distillation import distill, new_student
from prismkd.generators import TextToImage, load_generator
from prismkd.guidance import Calibration
from prismkd.probes import PROBE_SEED, judge_senses, run_calibration
from prismkd.prompts import ClassName, PromptPlan, load_classes, make_plan, plain_plan
from prismkd.prompts.senses import Sense
from prismkd.synthesis import Synthesizer
from prismkd.teachers import Classifier, load_judge, load_teacher


@dataclass(frozen=True)
class Laboratory:
    """Models and data, loaded when first used.

    Attributes:
        num_steps: of every student.
        config: all other settings.
    """

    num_steps: int = 800
    config: Config = field(default_factory=Config)

    @cached_property
    def classes(self) -> list[ClassName]:
        return load_classes("pictograms")

    @cached_property
    def teacher(self) -> Classifier:
        return load_teacher("pictograms", [item.name for item in self.classes])

    @cached_property
    def judge(self) -> Classifier:
        return load_judge("pictograms", len(self.classes))

    @cached_property
    def generator(self) -> TextToImage:
        return load_generator(self.config.generator)

    @cached_property
    def test(self) -> LabelledImages:
        return load_labelled_images(asset("test.parquet"), len(self.classes))

    @cached_property
    def senses(self) -> list[Sense]:
        probes = self.config.prompts.num_probes
        return judge_senses(self.classes, Synthesizer(self.generator, self.teacher), probes, PROBE_SEED, _ignore)

    @property
    def recipe(self) -> DistillationConfig:
        return replace(self.config.distillation, num_steps=self.num_steps)

    def plan(self, seed: int, id_share: float | None = None) -> PromptPlan:
        """Plain prompts where ``id_share`` is None, else DPE's."""
        template = self.config.prompts.template
        if id_share is None:
            return plain_plan(self.classes, seed, template)
        return make_plan(self.senses, seed, diversified=True, template=template, id_share=id_share)

    def calibration(self, guidance: GuidanceConfig, teacher: Classifier | None = None) -> Calibration:
        """Targets from unguided images of plain prompts."""
        synthesizer = Synthesizer(self.generator, teacher or self.teacher)
        return run_calibration(self.plan(PROBE_SEED), synthesizer, guidance, _ignore)[0]

    def distil(self, images: Tensor, seed: int, teacher: Classifier | None = None) -> nn.Module:
        """A student of the recipe."""
        student = new_student(self.recipe, len(self.classes), images.shape[1], seed)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.pt"
            distill(student, teacher or self.teacher, images, self.recipe, seed, checkpoint, _ignore)
        return student


def labels_of(plan: PromptPlan, count: int) -> Tensor:
    """The labels of a plan's first prompts."""
    return torch.tensor([plan[i].label for i in range(count)])


def _ignore(count: int) -> None:
    pass
