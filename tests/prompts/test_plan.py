"""The prompt plan is a pure, balanced function of the index."""

from collections import Counter

import pytest

from prismkd.classes.lists import ClassName
from prismkd.config import PromptsConfig
from prismkd.errors import UserError
from prismkd.prompts import PromptPlan, diversified_plan, plain_plan
from prismkd.prompts.dpe import check_styles, with_defaults
from prismkd.prompts.plan import check_budget
from prismkd.prompts.senses import names_alone

CLASSES = [ClassName(name) for name in ("bell", "mouse", "star")]
CONFIG = with_defaults(PromptsConfig(id_share=0.7), "pictograms")
CONTENTS = ["a {}", "a small {}", "several {s}", "half a {}"]


@pytest.fixture
def plan() -> PromptPlan:
    return diversified_plan(CLASSES, names_alone(CLASSES), [CONTENTS] * 3, CONFIG, seed=3)


def test_every_prefix_is_balanced_over_classes(plan: PromptPlan) -> None:
    for count in (3, 7, 100, 301):
        labels = Counter(plan[i].label for i in range(count))
        assert max(labels.values()) - min(labels[k] for k in range(3)) <= 1


def test_style_shares_are_met_within_each_class(plan: PromptPlan) -> None:
    styles = Counter(plan[i].style for i in range(0, 3000, 3))
    for style in plan.styles:
        assert abs(styles[style.name] / 1000 - style.weight) < 0.01


def test_every_content_meets_every_style_early(plan: PromptPlan) -> None:
    """The spread is even in both dimensions together: in 200 images of a class no pair is missing."""
    pairs = {plan[i].text for i in range(0, 600, 3)}
    assert len(pairs) == len(CONTENTS) * len(plan.styles)


def test_random_access_equals_enumeration_and_survives_json(plan: PromptPlan) -> None:
    prompts = [plan[i] for i in range(50)]
    assert PromptPlan.from_dict(plan.to_dict())[37] == prompts[37]
    assert plan[10**7].index == 10**7


def test_seeds_are_distinct_and_the_same_for_every_method(plan: PromptPlan) -> None:
    plain = plain_plan(CLASSES, 3, "an icon of a {name}")
    seeds = [plan[i].seed for i in range(10_000)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[:100] == [plain[i].seed for i in range(100)]
    assert plain[1].text == "an icon of a mouse"


def test_another_seed_gives_another_hash(plan: PromptPlan) -> None:
    assert plan.hash() != diversified_plan(CLASSES, names_alone(CLASSES), [CONTENTS] * 3, CONFIG, seed=4).hash()


def test_shares_rule_after_the_pilot_and_not_before(plan: PromptPlan) -> None:
    factors = [2.0] + [1.0] * (len(plan.styles) - 1)
    later = plan.allocated(30, (0.5, 0.25, 0.25), factors)
    assert [later[i] for i in range(30)] == [plan[i] for i in range(30)]
    labels = Counter(later[i].label for i in range(30, 30 + 9600))
    assert labels[0] == 4800 and labels[1] == labels[2] == 2400
    for count in (24, 96, 960):  # every prefix is near the shares
        assert abs(Counter(later[30 + i].label for i in range(count))[0] - count / 2) <= 1
    styles = Counter(later[i].style for i in range(30, 9630))
    assert abs(styles["filled"] / 9600 - 1.4 / 1.7) < 0.01


def test_after_the_pilot_no_prompt_of_a_class_comes_twice_in_the_sequence(plan: PromptPlan) -> None:
    """Turns of a class go on where the pilot stopped: contents and styles keep their spread."""
    even = plan.allocated(30, (1 / 3, 1 / 3, 1 / 3), [1.0] * len(plan.styles))
    texts = [sorted((p.label, p.text) for p in (some[i] for i in range(300))) for some in (even, plan)]
    assert texts[0] == texts[1]


def test_an_allocated_plan_survives_json(plan: PromptPlan) -> None:
    later = plan.allocated(30, (0.5, 0.3, 0.2), [1.0, 0.5, 1.0, 1.0, 1.0, 2.0])
    again = PromptPlan.from_dict(later.to_dict())
    assert [again[i] for i in range(200)] == [later[i] for i in range(200)]
    assert later.hash() != plan.hash()


def test_a_class_may_restrict_its_styles() -> None:
    classes = [ClassName("sky", styles=("icon", "color")), ClassName("bell")]
    plan = diversified_plan(classes, names_alone(classes), [["a {}"]] * 2, CONFIG, seed=0)
    assert {plan[i].style for i in range(0, 400, 2)} == {"icon", "color"}
    assert {plan[i].style for i in range(1, 401, 2)} == {style.name for style in plan.styles}
    with pytest.raises(UserError, match="'sky' among filled"):
        check_styles([ClassName("sky", styles=("photo",))], CONFIG)


def test_a_budget_below_the_number_of_classes_is_refused() -> None:
    check_budget(3, 3)
    with pytest.raises(UserError, match="at least one image per class, 3, got 2"):
        check_budget(2, 3)
