"""The embedded world opened for measurements: draw, distil and evaluate without a run directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from prismkd.assets import asset
from prismkd.classes import ClassName, load_classes
from prismkd.classifiers import Classifier, load_judge, load_teacher
from prismkd.config import Config, DistillationConfig, GuidanceConfig, PromptsConfig
from prismkd.data import LabelledImages, load_labelled_images
from prismkd.distillation import TrainingSet, new_student, train
from prismkd.evaluation.students import evaluate_student
from prismkd.generators import TextToImage, load_generator
from prismkd.guidance import Calibration
from prismkd.prompts import Prompt, PromptPlan, diversified_plan, plain_plan
from prismkd.prompts.dpe import contents_of_classes, with_defaults
from prismkd.prompts.judge import judge_contents, judge_senses
from prismkd.prompts.plan import PROBE_SEED
from prismkd.prompts.senses import Sense, unjudged_senses
from prismkd.shards import Sample
from prismkd.synthesis.calibrate import run_calibration
from prismkd.synthesis.synthesizer import Synthesizer


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
        return load_teacher(self.config.teacher, [item.name for item in self.classes])

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
    def prompts(self) -> PromptsConfig:
        return with_defaults(self.config.prompts, self.config.generator.source)

    @cached_property
    def senses(self) -> list[Sense]:
        return self.judged(unjudged_senses(self.classes, {}, self.prompts.max_senses))

    def judged(self, senses: Sequence[Sense], seed: int = PROBE_SEED) -> list[Sense]:
        """The teacher's choice among the wordings."""
        return judge_senses(senses, self.prompts, self._probe, seed)

    @cached_property
    def contents(self) -> list[list[str]]:
        """Of every class, without those that lose it."""
        found = contents_of_classes(self.senses, self.prompts)
        return judge_contents(self.senses, found, self.prompts, self.generator.text_features, self._probe)[0]

    def _probe(self, name: str, wanted: list[Prompt]) -> Iterator[Sample]:
        return Synthesizer(self.generator, self.teacher).samples(wanted, _ignore)

    @property
    def recipe(self) -> DistillationConfig:
        return replace(self.config.distillation, num_steps=self.num_steps)

    def plan(self, seed: int, id_share: float | None = None) -> PromptPlan:
        """Plain prompts where ``id_share`` is None, else DPE's."""
        if id_share is None:
            return plain_plan(self.classes, seed, self.prompts.template)
        return diversified_plan(
            self.classes, self.senses, self.contents, replace(self.prompts, id_share=id_share), seed
        )

    def calibration(self, guidance: GuidanceConfig, teacher: Classifier | None = None) -> Calibration:
        """Targets from unguided images of plain prompts."""
        synthesizer = Synthesizer(self.generator, teacher or self.teacher)
        return run_calibration(self.plan(PROBE_SEED), synthesizer, guidance, _ignore)[0]

    @cached_property
    def targets(self) -> Calibration:
        """Those of the configured guidance."""
        return self.calibration(self.config.guidance)

    def synthesizer(self, guided: bool) -> Synthesizer:
        """Without or with the configured guidance."""
        guidance, targets = (self.config.guidance, self.targets) if guided else (None, None)
        return Synthesizer(self.generator, self.teacher, guidance, targets)

    def top1(self, student: nn.Module, seed: int, teacher: Classifier | None = None) -> dict[str, float]:
        """A student's top-1 on every domain of the test."""
        rows = evaluate_student(student, teacher or self.teacher, self.test, "", seed).rows
        return {row.domain: row.value for row in rows if row.metric == "top1"}

    def distil(
        self, images: Tensor | TrainingSet, seed: int, teacher: Classifier | None = None,
        recipe: DistillationConfig | None = None,
    ) -> nn.Module:  # fmt: skip
        """A student of the recipe."""
        data = images if isinstance(images, TrainingSet) else TrainingSet(images)
        recipe = recipe or self.recipe
        student = new_student(recipe, len(self.classes), data.images.image_shape[0], seed)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.pt"
            train(student, teacher or self.teacher, data, recipe, seed, checkpoint, _ignore)
        return student


def labels_of(plan: PromptPlan, count: int) -> Tensor:
    """The labels of a plan's first prompts."""
    return torch.tensor([plan[i].label for i in range(count)])


def _ignore(count: int) -> None:
    pass
