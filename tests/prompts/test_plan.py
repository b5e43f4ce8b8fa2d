"""The prompt plan is a pure, balanced function of the index."""

from collections import Counter

import pytest
import torch

from prismkd.prompts import PromptPlan, make_plan
from prismkd.prompts.classes import ClassName
from prismkd.prompts.senses import Sense, candidates, choose_senses, mean_log_probability

SENSES = [Sense(name, f"{name}, a thing", {}) for name in ("bell", "mouse", "star")]


@pytest.fixture
def plan() -> PromptPlan:
    return make_plan(SENSES, seed=3, diversified=True, template="an icon of a {name}", id_share=0.7)


def test_every_prefix_is_balanced_over_classes(plan: PromptPlan) -> None:
    for count in (3, 7, 100, 301):
        labels = Counter(plan[i].label for i in range(count))
        assert max(labels.values()) - min(labels[k] for k in range(3)) <= 1


def test_style_shares_are_met_within_each_class(plan: PromptPlan) -> None:
    styles = Counter(plan[i].style for i in range(0, 3000, 3))
    for style in plan.styles:
        assert abs(styles[style.name] / 1000 - style.weight) < 0.01


def test_random_access_equals_enumeration_and_survives_json(plan: PromptPlan) -> None:
    prompts = [plan[i] for i in range(50)]
    assert PromptPlan.from_dict(plan.to_dict())[37] == prompts[37]
    assert plan[10**7].index == 10**7


def test_seeds_are_distinct_and_the_same_for_every_method(plan: PromptPlan) -> None:
    plain = make_plan(
        [Sense(s.class_name, s.class_name, {}) for s in SENSES],
        seed=3,
        diversified=False,
        template="an icon of a {name}",
        id_share=0.7,
    )
    seeds = [plan[i].seed for i in range(10_000)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[:100] == [plain[i].seed for i in range(100)]
    assert plain[1].text == "an icon of a mouse"


def test_another_seed_gives_another_hash(plan: PromptPlan) -> None:
    other = make_plan(SENSES, seed=4, diversified=True, template="an icon of a {name}", id_share=0.7)
    assert plan.hash() != other.hash()


def test_the_wording_with_the_best_score_becomes_the_sense() -> None:
    classes = [ClassName("crane", "a large wading bird"), ClassName("bell")]
    senses = choose_senses(classes, lambda texts, labels: torch.tensor([float("bird" in t) for t in texts]))
    assert "bird" in senses[0].text
    assert senses[1].text == "bell"
    assert set(senses[0].scores) == set(candidates(classes[0]))


def test_probe_scores_are_means_per_wording() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [20.0, 0.0], [20.0, 0.0]])
    scores = mean_log_probability(logits, torch.tensor([0, 0, 0, 0]), num_probes=2)
    assert torch.allclose(scores, torch.tensor([-0.6931, 0.0]), atol=1e-3)
