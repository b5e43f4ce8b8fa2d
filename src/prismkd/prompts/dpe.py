"""DPE put together: from classes, senses, contents and styles to a method's plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from prismkd.classes import ClassName
from prismkd.config import PromptsConfig
from prismkd.errors import UserError
from prismkd.prompts.content import PLAIN, contents_of
from prismkd.prompts.plan import PromptPlan, Subject
from prismkd.prompts.senses import Sense, names_alone
from prismkd.prompts.styles import ICON_DOMAINS, PHOTO_DOMAINS, Style, class_weights, style_bank


def with_defaults(config: PromptsConfig, generator: str) -> PromptsConfig:
    """The configuration with template and domains filled in where they are empty.

    The embedded generator ``pictograms`` gets icons; any other gets photos first, the domain of most teachers.
    """
    is_pictograms = generator == "pictograms"
    template = config.template or ("an icon of a {name}" if is_pictograms else "a photo of a {name}")
    domains = config.domains or (ICON_DOMAINS if is_pictograms else PHOTO_DOMAINS)
    return replace(config, template=template, domains=domains)


def check_styles(classes: Sequence[ClassName], config: PromptsConfig) -> None:
    """Refuse classes without a style, before anything is drawn.

    Raises:
        UserError: an unknown domain, or a class that allows none of the configured ones.
    """
    bank = style_bank(config.domains, config.id_share)
    for item in classes:
        class_weights(bank, item.styles, item.name)


def plain_plan(classes: Sequence[ClassName], seed: int, template: str) -> PromptPlan:
    """The plan of class names in one template, such as "a photo of a {name}".

    The methods without DPE draw it (DM-KD's "off-the-shelf" prompts), and so do calibration and the cost estimate.

    Args:
        classes: in the order of the labels.
        seed: the run's.
        template: with ``{name}``.
    """
    return template_plan(names_alone(classes), seed, template)


def template_plan(senses: Sequence[Sense], seed: int, template: str) -> PromptPlan:
    """As ``plain_plan``, with each class in its chosen sense instead of its bare name."""
    # The template is the content and not the style, so that its article fits the noun as DPE's do: a comparison of the
    # methods should not measure "a umbrella"
    content = template.replace("{name}", "{}")
    subjects = tuple(Subject(sense.class_name, sense.text, (content,), (1.0,)) for sense in senses)
    return PromptPlan(subjects, (Style("plain", "plain", "{}", 1.0),), seed)


def diversified_plan(
    classes: Sequence[ClassName], senses: Sequence[Sense], contents: Sequence[Sequence[str]], config: PromptsConfig,
    seed: int,
) -> PromptPlan:  # fmt: skip
    """The plan of DPE: every class in its sense, with its contents, in the styles of the configured domains.

    Args:
        classes: in the order of the labels; some may allow only some styles.
        senses: chosen, one per class.
        contents: of every class, at least one each.
        config: the domains, and the share of the teacher's own.
        seed: the run's.

    Raises:
        UserError: an unknown domain, or a class that allows none of the configured ones.
    """
    bank = style_bank(config.domains, config.id_share)
    subjects = [
        Subject(item.name, sense.text, tuple(class_contents), class_weights(bank, item.styles, item.name))
        for item, sense, class_contents in zip(classes, senses, contents, strict=True)
    ]
    return PromptPlan(tuple(subjects), tuple(bank), seed)


Phrase = Annotated[str, Meta(min_length=1, max_length=10_000)]


class DroppedContent(TypedDict):
    """A content that the teacher didn't see the class in: ``judge.DroppedContent``."""

    class_name: Annotated[str, Meta(max_length=1000)]
    content: Phrase
    reason: Annotated[str, Meta(max_length=10_000)]


class ContentsRecord(TypedDict):
    """``contents.json``, which users may edit: what is drawn of each class, and what deciding it took."""

    contents: list[Annotated[list[Phrase], Meta(min_length=1)]]
    dropped: NotRequired[list[DroppedContent]]
    seconds: NotRequired[Annotated[float, Meta(ge=0, le=1e12)]]
    images: NotRequired[Annotated[int, Meta(ge=0, le=2**53)]]


def contents_from_record(record: ContentsRecord, num_classes: int, place: Path) -> list[list[str]]:
    """The contents of every class.

    Args:
        record: as read from JSON.
        num_classes: of the run.
        place: the file, for the error.

    Raises:
        UserError: of another number of classes.
    """
    lists = record["contents"]
    if len(lists) != num_classes:
        raise UserError(
            f"expected a list of contents for each of {num_classes} classes in {place}, got {len(lists)}; correct it, "
            "or delete the file and run `prismkd prompts`"
        )
    return lists


def contents_of_classes(senses: Sequence[Sense], config: PromptsConfig) -> list[list[str]]:
    """Every class's contents before the teacher judges them; only the plain form where content is off."""
    if not config.content:
        return [[PLAIN] for _ in senses]
    # Every class's synset, its own too: a synset is none of its own hyponyms, so that it excludes nothing of itself
    synsets = {sense.synset for sense in senses}
    return [contents_of(config.domains[0], sense, synsets) for sense in senses]
