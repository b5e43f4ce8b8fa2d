"""A plan without any model is the plan of a run whose teacher judges nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prismkd.classes import ClassName, load_classes
from prismkd.config import PromptsConfig
from prismkd.errors import UserError
from prismkd.prompts import diversified_plan, plain_plan
from prismkd.prompts.dpe import contents_of_classes
from prismkd.prompts.senses import unjudged_senses
from prismkd.prompts.styles import ICON_DOMAINS, PHOTO_DOMAINS
from prismkd.prompts.without_teacher import plan


@pytest.mark.parametrize(("classes", "domains"), [("pacs", PHOTO_DOMAINS), ("pictograms", ICON_DOMAINS)])
def test_it_is_the_plan_of_a_run_that_judges_nothing(classes: str, domains: tuple[str, ...]) -> None:
    config = PromptsConfig(domains=domains)
    listed = load_classes(classes)
    senses = unjudged_senses(listed, {}, config.max_senses)
    expected = diversified_plan(listed, senses, contents_of_classes(senses, config), config, 5)
    assert plan(classes, seed=5) == expected == plan(classes, seed=5, domains=domains)
    assert plan(classes, seed=6).hash() != expected.hash()
    bare = diversified_plan(listed, senses, contents_of_classes(senses, replace(config, content=False)), config, 5)
    assert plan(classes, seed=5, content=False) == bare != expected


def test_a_template_is_the_plain_plan() -> None:
    listed = load_classes("pacs")
    expected = plain_plan(listed, 2, "a photo of a {name}")
    assert plan("pacs", seed=2, template="a photo of a {name}") == expected


def test_classes_may_be_names_from_python() -> None:
    listed = ["crane", ClassName("bolt", definition="a metal pin with a screw thread")]
    found = plan(listed, domains=["photo", "x-ray: an x-ray image of {}"], seed=0, id_share=0.5)
    assert [found[i].class_name for i in range(4)] == ["crane", "bolt", "crane", "bolt"]
    assert "metal pin" in found[1].text
    styles = [found[i].style.split()[0] for i in range(400)]
    assert styles.count("x-ray") == pytest.approx(200, abs=4)
    assert found[10_000_000] == plan(tuple(listed), domains=["photo", "x-ray: an x-ray image of {}"],
                                     id_share=0.5)[10_000_000]  # fmt: skip


def test_what_can_not_be_planned_is_one_error() -> None:
    with pytest.raises(UserError, match=r"got 'sketsch'; perhaps sketch"):
        plan("pacs", domains=["photo", "sketsch"])
    with pytest.raises(UserError, match=r"expected \{name\} in prompts\.template"):
        plan("pacs", template="a photo")
    with pytest.raises(UserError, match=r"expected prompts\.id_share from 0 to 1, got 2"):
        plan("pacs", id_share=2.0)
    with pytest.raises(UserError, match="expected at least two classes in the given list, got only 'cat'"):
        plan(["cat"])
    with pytest.raises(UserError, match="perhaps imagenet-1k"):
        plan("imagenet1k")
