"""What the JSON files of a run's folder hold: one shape for each, which its reader checks.

Files that an earlier room reads have their shapes there: wordings and contents in ``prompts/senses.py``, a plan in
``prompts/plan.py``, manifest and ledger in ``shards/``. What later versions of prismkd added isn't required, so that
old runs stay readable; keys that no shape names are kept, and nobody looks at them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]  # larger ones no float could hold
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
Figure = Annotated[float, Meta(ge=-1e100, le=1e100)]  # a measured value, of which sums and squares are finite
Name = Annotated[str, Meta(max_length=1000)]  # of a class, a domain, a method
Text = Annotated[str, Meta(max_length=100_000)]
Inputs = dict[str, str | dict[str, str]]  # digests of what something was made with, by name (``records/digests.py``)


# --- run.json --------------------------------------------------------------------------------------------------------


class ClassRow(TypedDict):
    """A class, as ``classes.ClassName`` has it."""

    name: Name
    definition: NotRequired[Text]
    polysemous: NotRequired[bool]
    synset: NotRequired[Name]
    synonyms: NotRequired[list[Name]]
    styles: NotRequired[list[Name]]


class Change(TypedDict):
    """Settings that were changed since a run was started, by their dotted names."""

    date: Name
    command: Text
    settings: dict[str, Any]


class RunRecord(TypedDict):
    """``run.json``: what a run was started with, and what was changed since."""

    config: dict[str, Any]
    classes: list[ClassRow]
    command: Text
    started: Name
    schema: NotRequired[Count]
    version: NotRequired[Name]
    changes: NotRequired[list[Change]]


class SynthesisSettings(TypedDict):
    """What a report needs of ``config.synthesis``."""

    storage: NotRequired[Text]
    images_per_class: NotRequired[Annotated[int, Meta(ge=1, le=2**53)]]


class DistillationSettings(TypedDict):
    """What a report needs of ``config.distillation``."""

    architecture: NotRequired[Name]
    learning_rate: NotRequired[Figure]
    hard_label_weight: NotRequired[Figure]


class ShownSettings(TypedDict):
    """A run's settings, as far as a report looks at them by name; ``config.load`` checks them all."""

    synthesis: NotRequired[SynthesisSettings]
    distillation: NotRequired[DistillationSettings]
    evaluation: NotRequired[dict[str, Any]]


class ShownRecord(TypedDict):
    """``run.json`` as a report shows it, where any part may be missing."""

    config: NotRequired[ShownSettings]
    classes: NotRequired[list[ClassRow]]
    command: NotRequired[Text]
    started: NotRequired[Name]
    version: NotRequired[Name]
    changes: NotRequired[list[Change]]


# --- prompts ---------------------------------------------------------------------------------------------------------


class Example(TypedDict):
    """A prompt of a plan."""

    index: Count
    label: Count
    class_name: Name
    text: Text
    style: Name


class PromptsRecord(TypedDict):
    """``prompts.json``: a plan (``prompts.plan.PromptPlan``), for how many images, and its first prompts."""

    plan: dict[str, Any]
    num_images: Count
    examples: list[Example]
    plan_hash: NotRequired[Name]


class ShownSubject(TypedDict):
    """A class in a plan."""

    contents: list[Text]
    weights: list[Share]


class ShownStyle(TypedDict):
    """A style in a plan."""

    name: Name
    domain: NotRequired[Name]
    phrase: Text


class ShownPlan(TypedDict):
    """A plan as a report shows it: what plans of all versions have."""

    subjects: list[ShownSubject]
    styles: list[ShownStyle]


class ShownPrompts(TypedDict):
    """``prompts.json`` as a report shows it."""

    plan: ShownPlan
    examples: list[Example]


class ExampleText(TypedDict):
    """What a model card shows of a prompt."""

    text: Text


class ExampleTexts(TypedDict):
    """``prompts.json`` as a model card shows it."""

    examples: list[ExampleText]


class HeldOutPlan(TypedDict):
    """``held-out/plain.json`` and ``diverse.json``: a plan, or null where the generator can't draw such prompts."""

    plan: dict[str, Any] | None


# --- images ----------------------------------------------------------------------------------------------------------


class AdaptationCheck(TypedDict):
    """What the teacher said of images, as of ``adaptation.check.Check``."""

    step: Count
    energy: Figure
    agreement: Share
    diversity: Figure


class AdaptationRecord(TypedDict):
    """``adapter/adaptation.json``: how the adapter was trained (``adaptation.Adaptation``)."""

    chosen_step: Count
    num_steps: Count
    stopped: bool
    checks: list[AdaptationCheck]
    guided: AdaptationCheck
    losses: list[Figure]
    seconds: Seconds
    digest: Name


class CalibrationRecord(TypedDict):
    """``calibration.json``: ``guidance.targets.Calibration``, and the energies that it rests on."""

    energy_target: list[Figure]
    energy_all: Figure
    g_floor: Figure
    per_class_count: list[Count]
    num_images: Count
    energies: list[Figure]
    seconds: Seconds
    latent_rms: NotRequired[Figure]


class AllocationRecord(TypedDict):
    """``allocation.json``: ``prompts.allocation.Allocation``, and after how many images it holds."""

    pilot: Count
    class_shares: list[Share]
    style_factors: list[Annotated[float, Meta(gt=0, le=1e6)]]
    seconds: NotRequired[Seconds]


class RoundsIdentity(TypedDict):
    """What a manifest says of rounds: ``config.RoundsConfig``, where they end, and the recipe of guides."""

    num_rounds: Count
    guide_term: Literal["entropy", "divergence"]
    guide_weight: Annotated[float, Meta(ge=0, le=1e6)]
    allocate: bool
    ends: list[Annotated[int, Meta(ge=1, le=2**53)]]
    num_planned: Annotated[int, Meta(ge=1, le=2**53)]
    recipe: dict[str, Any]


class RoundRecord(TypedDict):
    """``round.json``: on how many images a guide was trained, and what it decided about the next ones."""

    num_images: Annotated[int, Meta(ge=1, le=2**53)]
    digest: Name
    plan_hash: Name
    seconds: Seconds
    class_shares: NotRequired[list[Share]]
    style_factors: NotRequired[list[Annotated[float, Meta(gt=0, le=1e6)]]]
    content_factors: NotRequired[dict[str, Annotated[float, Meta(gt=0, le=1e6)]]]
    disagreement: NotRequired[Figure]


class SynthesisRecord(TypedDict):
    """``synthesis.json``: what a method's images have cost; written when all are there."""

    num_images: Annotated[int, Meta(ge=1, le=2**53)]
    planned: Count
    seconds: Seconds
    complete: NotRequired[bool]


class BudgetRecord(TypedDict):
    """``budget.json`` of the method ``more``: how many images, and for how many of the others that was reckoned."""

    of: Count
    num_images: Count


class Spent(TypedDict):
    """A record of what was decided, where only its price is asked for: its seconds, and its images if it had any."""

    seconds: Seconds
    images: NotRequired[Count]
    num_images: NotRequired[Count]


# --- students --------------------------------------------------------------------------------------------------------


class LogRow(TypedDict):
    """A line of a training's log."""

    step: Count


class TrainingLog(TypedDict):
    """``log.json`` of a student: how it was trained. Written last: a student without it isn't trained."""

    seconds: Seconds
    images: Count
    log: list[LogRow]
    curve: NotRequired[list[Figure]]
    train_top1: NotRequired[Share | None]
    train_agreement: NotRequired[Share | None]
    warnings: NotRequired[list[Text]]
    recipe: NotRequired[dict[str, Any]]
    inputs: NotRequired[Inputs]
    digest: NotRequired[Name]
    version: NotRequired[Name]


class BegunTraining(TypedDict):
    """``training.json``: what a student that isn't finished is trained with."""

    recipe: dict[str, Any]
    images: Count
    inputs: NotRequired[Inputs]


# --- results ---------------------------------------------------------------------------------------------------------


class ResultRow(TypedDict):
    """A measured value: ``evaluation.rows.Row``."""

    method: Name
    domain: Name
    metric: Name
    value: Figure | None
    seed: NotRequired[int | None]
    n: NotRequired[Count | None]
    ci95: NotRequired[list[Figure | None] | None]


class DomainDetails(TypedDict):
    """A student on the test images of a domain; ``hits`` are packed as ``metrics.hits`` has it."""

    n: Count
    hits: NotRequired[str]
    images: NotRequired[Name | None]
    class_top1: NotRequired[list[Share | None]]
    vanished: NotRequired[list[Count]]


class Energies(TypedDict):
    """Teacher energies of each drawn image."""

    before: NotRequired[list[Figure | None]]
    after: NotRequired[list[Figure | None]]


class ShownEvaluation(TypedDict):
    """``EvaluationRecord`` as a report shows it, where any part may be missing."""

    settings: NotRequired[dict[str, Any]]
    confusion: NotRequired[list[list[Count]]]
    confusion_teacher: NotRequired[list[list[Count]]]
    domains: NotRequired[dict[str, DomainDetails]]
    energy: NotRequired[Energies]
    held_out: NotRequired[dict[str, Any]]
    inputs: NotRequired[Inputs]


class EvaluationRecord(ShownEvaluation):
    """``evaluation.json`` of a student and its images, and ``references.json`` of the teacher and real images."""

    results: list[ResultRow]


class Timing(TypedDict):
    """What a stage took; ``method`` is empty and ``seed`` null where a stage serves all."""

    stage: Name
    method: NotRequired[Name | None]
    seed: NotRequired[int | None]
    seconds: NotRequired[Seconds | None]
    images: NotRequired[Count | None]


class Metrics(TypedDict):
    """``metrics.json``: all results and timings of a run, in a published schema."""

    schema: Count
    results: list[ResultRow]
    timings: NotRequired[list[Timing]]
    classes: NotRequired[list[Name]]
    command: NotRequired[Text]
    hardware: NotRequired[Text]
    date: NotRequired[Name]
    version: NotRequired[Name]
    seeds: NotRequired[list[int]]
    inputs: NotRequired[Inputs]


class Gain(TypedDict):
    """What is left of guidance's gain after a treatment, by one viewer."""

    treatment: Name
    viewer: Name
    gain: Figure
    label_gain: Figure
    top1: Share
    top1_unguided: Share
    survives: Figure | None


class SurvivalRecord(TypedDict):
    """``survival.json``: the survival test."""

    num_images: Count
    guided: list[Gain]
    ascending: list[Gain]
    adapted: NotRequired[list[Gain]]
