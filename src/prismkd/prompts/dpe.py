"""DPE put together: classes, senses, contents and styles to the plan of a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prismkd.classes.lists import ClassName
from prismkd.config import PromptsConfig
from prismkd.errors import UserError
from prismkd.prompts.content import PLAIN, contents_of
from prismkd.prompts.plan import PromptPlan, Subject
from prismkd.prompts.senses import Sense, names_alone
from prismkd.prompts.styles import ICON_DOMAINS, PHOTO_DOMAINS, Style, class_weights, style_bank


def with_defaults(config: PromptsConfig, generator: str) -> PromptsConfig:
    """Template and domains filled in: icons for the embedded generator, photos first for the others."""
    icons = generator == "pictograms"
    template = config.template or ("an icon of a {name}" if icons else "a photo of a {name}")
    return replace(config, template=template, domains=config.domains or (ICON_DOMAINS if icons else PHOTO_DOMAINS))


def check_styles(classes: Sequence[ClassName], config: PromptsConfig) -> None:
    """Every class has a style.

    Raises:
        UserError: an unknown domain, or a class that allows none of the configured ones.
    """
    bank = style_bank(config.domains, config.id_share)
    for item in classes:
        class_weights(bank, item.styles, item.name)


def plain_plan(classes: Sequence[ClassName], seed: int, template: str) -> PromptPlan:
    """The plan of class names in one template: what calibration, tests of guidance and plain methods draw."""
    return template_plan(names_alone(classes), seed, template)


def template_plan(senses: Sequence[Sense], seed: int, template: str) -> PromptPlan:
    """The plan of senses in one template."""
    style = Style("plain", "plain", template.replace("{name}", "{}"), 1.0)
    subjects = tuple(Subject(sense.class_name, sense.text, ("{}",), (1.0,)) for sense in senses)
    return PromptPlan(subjects, (style,), seed)


def diversified_plan(
    classes: Sequence[ClassName], senses: Sequence[Sense], contents: Sequence[Sequence[str]], config: PromptsConfig,
    seed: int,
) -> PromptPlan:  # fmt: skip
    """The plan of DPE.

    Args:
        classes: whose styles may be restricted.
        senses: chosen, one per class.
        contents: of every class.
        config: domains and the share of the teacher's own.
        seed: the run's.
    """
    bank = style_bank(config.domains, config.id_share)
    subjects = [
        Subject(item.name, sense.text, tuple(own), class_weights(bank, item.styles, item.name))
        for item, sense, own in zip(classes, senses, contents, strict=True)
    ]
    return PromptPlan(tuple(subjects), tuple(bank), seed)


def contents_from_rows(rows: Any, num_classes: int, place: Path) -> list[list[str]]:
    """Stored contents, checked.

    Raises:
        UserError: not a list of phrases for every class.
    """
    lists: list[Any] = rows if isinstance(rows, list) and len(rows) == num_classes else [None]
    if not all(isinstance(own, list) and own and all(isinstance(c, str) for c in own) for own in lists):
        raise UserError(
            f"expected a list of contents for each of {num_classes} classes in {place}, got another; delete the file"
        )
    return lists


def contents_of_classes(senses: Sequence[Sense], config: PromptsConfig) -> list[list[str]]:
    """Every class's contents before any is dropped; only the plain form where content is off."""
    if not config.content:
        return [[PLAIN] for _ in senses]
    synsets = {sense.synset for sense in senses}  # none is below itself
    return [contents_of(config.domains[0], sense, synsets) for sense in senses]
