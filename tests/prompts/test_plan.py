"""The prompt plan is a pure, balanced function of the index."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prismkd.classes.lists import ClassName
from prismkd.config import PromptsConfig
from prismkd.errors import UserError
from prismkd.prompts import PromptPlan, diversified_plan, plain_plan
from prismkd.prompts.dpe import check_styles, with_defaults
from prismkd.prompts.plan import check_budget
from prismkd.prompts.senses import names_alone
from prismkd.prompts.styles import ICON_DOMAINS, PHOTO_DOMAINS

CLASSES = [ClassName(name) for name in ("bell", "mouse", "star")]
CONFIG = with_defaults(PromptsConfig(id_share=0.7), "pictograms")
CONTENTS = ["a {}", "a small {}", "several {s}", "half a {}"]


@pytest.fixture
def plan() -> PromptPlan:
    return diversified_plan(CLASSES, names_alone(CLASSES), [CONTENTS] * 3, CONFIG, seed=3)


@st.composite
def plans(draw: st.DrawFn) -> PromptPlan:
    """Of any classes, contents, styles and seed."""
    classes = [ClassName(f"thing {number}") for number in range(draw(st.integers(1, 6)))]
    contents = [CONTENTS[: draw(st.integers(1, len(CONTENTS)))] for _ in classes]
    bank = draw(st.sampled_from([ICON_DOMAINS, PHOTO_DOMAINS]))
    domains = tuple(bank[: draw(st.integers(1, len(bank)))])
    config = PromptsConfig(id_share=draw(st.sampled_from([0.0, 0.3, 1.0])), domains=domains)
    return diversified_plan(classes, names_alone(classes), contents, config, draw(st.integers(0, 2**40)))


@st.composite
def allocated_plans(draw: st.DrawFn) -> tuple[PromptPlan, PromptPlan]:
    """One of them, and the same with other shares and styles after a pilot."""
    plan = draw(plans())
    parts = [draw(st.integers(1, 5)) for _ in plan.subjects]
    factors = [draw(st.sampled_from([0.5, 1.0, 2.0])) for _ in plan.styles]
    pilot = len(parts) * draw(st.integers(0, 10))
    return plan, plan.allocated(pilot, [part / sum(parts) for part in parts], factors)


@given(plans(), st.integers(1, 300))
def test_every_prefix_is_balanced_over_classes(plan: PromptPlan, count: int) -> None:
    labels = Counter(plan[i].label for i in range(count))
    counts = [labels[label] for label in range(len(plan.subjects))]
    assert max(counts) - min(counts) <= 1 and sum(counts) == count


@given(allocated_plans(), st.integers(0, 300))
def test_every_prefix_after_a_pilot_is_near_the_shares(pair: tuple[PromptPlan, PromptPlan], count: int) -> None:
    before, after = pair
    (phase,) = after.phases
    assert [after[i] for i in range(phase.start)] == [before[i] for i in range(phase.start)]
    labels, num_classes = Counter(after[phase.start + i].label for i in range(count)), len(after.subjects)
    for label, share in enumerate(phase.shares):
        rounds = count / (32 * num_classes)  # in each of which a share is met to one image
        assert abs(labels[label] - share * count) <= 1 + num_classes / 2 + rounds


@given(allocated_plans(), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_a_prompt_is_a_function_of_its_index_alone(pair: tuple[PromptPlan, PromptPlan], indices: list[int]) -> None:
    """Whichever process asks, in whatever order, and after any number of others."""
    for plan in pair:
        found = [plan[index] for index in indices]
        again = replace(PromptPlan.from_dict(json.loads(json.dumps(plan.to_dict()))), phases=plan.phases)
        assert [again[index] for index in reversed(indices)] == found[::-1]
        assert again.hash() == plan.hash()
        assert [prompt.index for prompt in found] == indices


@given(plans(), st.integers(0, 10**6))
def test_a_prompt_shows_its_own_class_in_a_style_that_it_may_have(plan: PromptPlan, index: int) -> None:
    prompt = plan[index]
    subject = plan.subjects[prompt.label]
    assert prompt.class_name == subject.class_name and subject.class_name in prompt.text.replace("things", "thing")
    weights = {style.name: weight for style, weight in zip(plan.styles, subject.weights, strict=True)}
    assert weights[prompt.style] > 0


def test_no_two_images_of_any_seeds_start_from_the_same_noise() -> None:
    """Also not where one number's digits go on in the other: (1, 23) and (12, 3)."""
    runs = [plain_plan(CLASSES, seed, "an icon of a {name}") for seed in (*range(30), 2**40, 2**40 + 1)]
    noises = [plan[index].seed for plan in runs for index in (*range(300), 10**9)]
    assert len(set(noises)) == len(noises)


def test_style_shares_are_met_within_each_class(plan: PromptPlan) -> None:
    styles = Counter(plan[i].style for i in range(0, 3000, 3))
    for style in plan.styles:
        assert abs(styles[style.name] / 1000 - style.weight) < 0.01


def test_every_content_meets_every_style_early(plan: PromptPlan) -> None:
    """The spread is even in both dimensions together: no pair is missing where the rarest is due three times."""
    rarest = min(style.weight for style in plan.styles) / len(CONTENTS)
    pairs = {plan[i].text for i in range(0, round(3 / rarest) * 3, 3)}
    assert len(pairs) == len(CONTENTS) * len(plan.styles)


def test_every_method_starts_from_the_same_noise(plan: PromptPlan) -> None:
    plain = plain_plan(CLASSES, 3, "an icon of a {name}")
    assert [plan[i].seed for i in range(100)] == [plain[i].seed for i in range(100)]
    assert plain[1].text == "an icon of a mouse"


def test_another_seed_gives_another_hash(plan: PromptPlan) -> None:
    assert plan.hash() != diversified_plan(CLASSES, names_alone(CLASSES), [CONTENTS] * 3, CONFIG, seed=4).hash()


def test_shares_rule_after_the_pilot_and_not_before(plan: PromptPlan) -> None:
    factors = [2.0] + [1.0] * (len(plan.styles) - 1)
    later = plan.allocated(30, (0.5, 0.25, 0.25), factors)
    assert later.hash() == plan.hash()  # what images decide is no part of what their data set is known by
    labels = Counter(later[i].label for i in range(30, 30 + 9600))
    assert labels[0] == 4800 and labels[1] == labels[2] == 2400
    for count in (24, 96, 960):  # every prefix is near the shares
        assert abs(Counter(later[30 + i].label for i in range(count))[0] - count / 2) <= 1
    styles = Counter(later[i].style for i in range(30, 9630))
    assert abs(styles["filled"] / 9600 - 1.4 / 1.7) < 0.01


def test_contents_have_their_shares_in_a_later_phase_and_are_even_before(plan: PromptPlan) -> None:
    even, ones = (1 / 3, 1 / 3, 1 / 3), [1.0] * len(plan.styles)
    later = plan.allocated(30, even, ones, {"several {s}": 2.0, "a thing of another class": 2.0})
    assert [later.content(i) for i in range(30)] == [plan.content(i) for i in range(30)]
    contents = Counter(later.content(i) for i in range(30, 30 + 9600))
    assert all(abs(contents[content] / 9600 - 1 / 5) < 0.01 for content in CONTENTS if content != "several {s}")
    assert abs(contents["several {s}"] / 9600 - 2 / 5) < 0.01
    uneven = plan.allocated(30, even, ones, dict.fromkeys(CONTENTS, 1.0))
    assert [uneven[i] for i in range(600)] == [plan.allocated(30, even, ones)[i] for i in range(600)]


def test_after_the_pilot_no_prompt_of_a_class_comes_twice_in_the_sequence(plan: PromptPlan) -> None:
    """Turns of a class go on where the pilot stopped: contents and styles keep their spread."""
    even = plan.allocated(30, (1 / 3, 1 / 3, 1 / 3), [1.0] * len(plan.styles))
    texts = [sorted((p.label, p.text) for p in (some[i] for i in range(300))) for some in (even, plan)]
    assert texts[0] == texts[1]


@given(allocated_plans(), st.integers(0, 200), st.data())
def test_turns_of_a_class_go_on_over_all_phases(
    pair: tuple[PromptPlan, PromptPlan], more: int, data: st.DataObject
) -> None:  # fmt: skip
    _, once = pair
    parts = [data.draw(st.integers(1, 5)) for _ in once.subjects]
    start = once.phases[0].start + more  # not always a whole round over the classes
    twice = once.allocated(start, [part / sum(parts) for part in parts], [1.0] * len(once.styles))
    assert [twice[i] for i in range(start)] == [once[i] for i in range(start)]
    assert twice.phases[1].turns == tuple(
        sum(once[i].label == label for i in range(start)) for label in range(len(parts))
    )


def test_a_class_may_restrict_its_styles() -> None:
    classes = [ClassName("sky", styles=("icon", "color")), ClassName("bell")]
    plan = diversified_plan(classes, names_alone(classes), [["a {}"]] * 2, CONFIG, seed=0)
    assert {plan[i].style for i in range(0, 400, 2)} == {"icon", "color"}
    assert {plan[i].style for i in range(1, 2001, 2)} == {style.name for style in plan.styles}
    with pytest.raises(UserError, match="'sky' among filled"):
        check_styles([ClassName("sky", styles=("photo",))], CONFIG)


def test_a_budget_below_the_number_of_classes_is_refused() -> None:
    check_budget(3, 3)
    with pytest.raises(UserError, match="at least one image per class, 3, got 2"):
        check_budget(2, 3)
