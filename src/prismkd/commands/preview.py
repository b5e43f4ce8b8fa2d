"""``prismkd prompts --dry-run``: what a budget of prompts would be, without a model and without the plan in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismkd.assets import asset
from prismkd.classes.lists import classes_of
from prismkd.config import METHODS, Config, PromptsConfig
from prismkd.errors import UserError
from prismkd.prompts import Prompt, PromptPlan, diversified_plan
from prismkd.prompts.content import PLAIN
from prismkd.prompts.dpe import ContentsRecord, check_styles, contents_from_record, contents_of_classes, with_defaults
from prismkd.prompts.length import TooLong, too_long
from prismkd.prompts.plan import check_budget
from prismkd.prompts.senses import Sense, SensesRecord, senses_from_record, unjudged_senses
from prismkd.records.directory import read_json
from prismkd.records.shapes import SynthesisRecord

NUM_TIMED = 1000  # prompts, spread over the whole plan
NUM_SHOWN = 3  # prompts per class


@dataclass(frozen=True)
class Cost:
    """What a plan asks for.

    Attributes:
        requests: to a language model.
        sense_probes, content_probes: images that the teacher looks at before the first prompt is settled.
        images: of the plan.
        plans: methods times seeds that have so many images each; ``more`` has more.
        pilot: images of a plan that are allocated evenly, before their coverage or a guide decides.
    """

    requests: int
    sense_probes: int
    content_probes: int
    images: int
    plans: int
    pilot: int

    @property
    def total(self) -> int:
        """Images in all."""
        return self.sense_probes + self.content_probes + self.images * self.plans


@dataclass(frozen=True)
class Preview:
    """A plan seen from outside."""

    plan: PromptPlan
    senses: list[Sense]
    cost: Cost
    judged: bool
    images_per_second: float | None
    microseconds: float
    too_long: TooLong | None

    @property
    def hours(self) -> float | None:
        """Sampling time of all images, at the speed that the run has measured."""
        return self.cost.total / self.images_per_second / 3600 if self.images_per_second else None

    def balance(self, count: int) -> tuple[int, int]:
        """The smallest and the largest number of images of a class among the first ``count``."""
        num_classes = len(self.plan.subjects)
        return count // num_classes, -(-count // num_classes)

    def style_counts(self) -> dict[str, int]:
        """Images per style domain, as the weights say."""
        counts: dict[str, float] = {}
        for subject in self.plan.subjects:
            for style, weight in zip(self.plan.styles, subject.weights, strict=True):
                counts[style.domain] = counts.get(style.domain, 0.0) + weight / len(self.plan.subjects)
        return {domain: round(share * self.cost.images) for domain, share in counts.items()}

    def examples(self, label: int) -> list[Prompt]:
        """The first prompts of a class."""
        return [self.plan[label + turn * len(self.plan.subjects)] for turn in range(NUM_SHOWN)]

    def to_dict(self, num_classes: int) -> dict[str, Any]:
        """Plain data, with examples of the first ``num_classes`` classes."""
        shown = range(min(num_classes, len(self.plan.subjects)))
        return {
            "num_images": self.cost.images,
            "num_classes": len(self.plan.subjects),
            "senses_judged": self.judged,
            "images_per_class": {"first 1,000": self.balance(min(1000, self.cost.images)),
                                 "all": self.balance(self.cost.images)},
            "images_per_domain": self.style_counts(),
            "contents_per_class": [len(subject.contents) for subject in self.plan.subjects],
            "cost": {"language model requests": self.cost.requests, "sense probes": self.cost.sense_probes,
                     "content probes": self.cost.content_probes, "images": self.cost.images,
                     "plans": self.cost.plans, "images in all": self.cost.total},
            "hours": self.hours,
            "microseconds_per_prompt": self.microseconds,
            "too_long": self.too_long.to_dict() if self.too_long else None,
            "examples": {self.plan.subjects[k].class_name: [p.text for p in self.examples(k)] for k in shown},
        }  # fmt: skip


def preview(config: Config, num_images: int, directory: Path | None = None) -> Preview:
    """The plan without a model: as the run in ``directory`` has decided, or before the teacher has judged anything.

    Args:
        config: as of a run.
        num_images: of one method and seed; 0 takes ``synthesis.images_per_class``.
        directory: of a run, which may not exist yet; its decisions and its speed are used.

    Raises:
        UserError: bad classes or styles, or fewer images than classes.
    """
    classes = classes_of(config)
    prompts = with_defaults(config.prompts, config.generator.source)
    num_images = num_images or config.synthesis.images_per_class * len(classes)
    check_budget(num_images, len(classes))
    check_styles(classes, prompts)
    decided = _decided(directory)
    senses = decided["senses"] if decided else unjudged_senses(classes, {}, prompts.max_senses)
    if [sense.class_name for sense in senses] != [item.name for item in classes]:
        raise UserError(f"expected the classes of the run in {directory}, got others; give that run's --config")
    contents = decided.get("contents") if prompts.content else None
    contents = contents or contents_of_classes(senses, prompts)
    plan = diversified_plan(classes, senses, contents, prompts, config.seeds[0])
    distinct = sum(len({*own, PLAIN}) for own in contents)
    cost = Cost(
        requests=len(classes) if prompts.language_model.url and not decided else 0,
        sense_probes=0 if decided else prompts.num_probes * sum(len(sense.wordings) for sense in senses),
        content_probes=prompts.num_content_probes * distinct if prompts.content and "contents" not in decided else 0,
        images=num_images,
        plans=len(config.seeds) * sum(METHODS[method].draws_images for method in config.methods),
        pilot=round(_even_share(config, prompts) * num_images),
    )
    source = asset("generator") if config.generator.source == "pictograms" else config.generator.source
    long = too_long(plan, num_images, source, config.generator.revision)
    speed = _measured_speed(directory)
    return Preview(plan, senses, cost, bool(decided), speed, _microseconds(plan, num_images), long)


def _even_share(config: Config, prompts: PromptsConfig) -> float:
    """Of the images, those that are allocated evenly before something decides about the rest; 0 where nothing does."""
    by_guide = config.rounds.allocate and any(METHODS[method].in_rounds for method in config.methods)
    return 1 / config.rounds.num_rounds if by_guide else prompts.pilot_share


def _decided(directory: Path | None) -> dict[str, Any]:
    """The senses and contents that a run has settled; empty where it has not come so far."""
    found: dict[str, Any] = {}
    if directory and (path := directory / "senses.json").is_file():
        record = read_json(path, SensesRecord)
        found["senses"] = senses_from_record(record, len(record["senses"]), path)
        path = directory / "contents.json"
        if path.is_file():
            found["contents"] = contents_from_record(read_json(path, ContentsRecord), len(found["senses"]), path)
    return found


def _measured_speed(directory: Path | None) -> float | None:
    """Images per second over all that a run has drawn; None where it has finished no method."""
    images = seconds = 0.0
    for path in directory.glob("seed-*/*/synthesis.json") if directory else ():
        record = read_json(path, SynthesisRecord)
        if record.get("complete"):
            images, seconds = images + record["num_images"], seconds + record["seconds"]
    return images / seconds if seconds else None


def _microseconds(plan: PromptPlan, num_images: int) -> float:
    """Mean time of a prompt at places all over the plan."""
    _ = plan[0]  # imports what it needs
    places = [i * num_images // NUM_TIMED for i in range(NUM_TIMED)]
    start = time.perf_counter()
    for place in places:
        _ = plan[place]
    return (time.perf_counter() - start) / NUM_TIMED * 1e6
