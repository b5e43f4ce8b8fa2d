"""What the teacher says of probes: scores, the contents that it keeps, and the pilot's allocation."""

import json

import numpy as np
import pytest
import torch

from prismkd.classes.lists import ClassName
from prismkd.config import DistillationConfig, PromptsConfig
from prismkd.prompts import Prompt, diversified_plan
from prismkd.prompts.dpe import with_defaults
from prismkd.prompts.judge import (
    UNSEEN,
    content_prompts,
    judge_pilot,
    judge_round,
    judge_senses,
    keep_contents,
    keep_near_contents,
    scores_of,
    sense_prompts,
)
from prismkd.prompts.senses import Score, Sense, Wording, senses_to_rows
from prismkd.shards import Sample

PHRASE = "an icon of {}"
CRANE = Sense("crane", (Wording("crane", "name"), Wording("crane, bird", "wordnet")))
BELL = Sense("bell", (Wording("bell", "name"),))


def score(value: float) -> Score:
    return Score(value, 0.1, -9.0, 0.5)


def test_probe_i_has_the_same_noise_for_every_wording() -> None:
    prompts = sense_prompts([CRANE, BELL], 2, PHRASE)
    assert [p.text for p in prompts[::2]] == ["an icon of a crane", "an icon of a crane, bird", "an icon of a bell"]
    assert len({p.seed for p in prompts}) == 2 and [p.index for p in prompts] == list(range(6))
    assert [p.label for p in prompts] == [0, 0, 0, 0, 1, 1]


def probe(prompt: str, log_probability: float, energy: float, top1: int, label: int = 0) -> Sample:
    said = {"prompt": prompt, "log_probability": log_probability, "energy_after": energy, "teacher_top1": top1}
    return Sample(0, np.zeros((2, 2), np.uint8), label, said)


def test_scores_are_means_over_a_wordings_probes() -> None:
    found = scores_of([probe("a crane", -1.0, -8.0, 0), probe("a crane", -3.0, -10.0, 1)])
    assert found[0, "a crane"] == Score(-2.0, pytest.approx(1.0), -9.0, 0.5)


def test_the_wording_that_the_teacher_recognizes_is_chosen_and_a_broken_one_is_not() -> None:
    config = with_defaults(PromptsConfig(num_probes=1), "pictograms")

    def draw(name: str, prompts: list[Prompt]) -> list[Sample]:
        assert name == "senses"
        return [probe(p.text, -5.0, -9.0, 0, p.label) for p in prompts if "bird" in p.text or p.label == 1]

    crane, bell = judge_senses([CRANE, BELL], config, draw)
    assert crane.text == "crane, bird"
    assert crane.wordings[0].score == UNSEEN  # every probe was broken
    assert json.loads(json.dumps(senses_to_rows([crane, bell]), allow_nan=False))


def test_contents_that_lose_the_class_are_dropped_with_the_reason() -> None:
    contents = ["a {}", "a small {}", "a broken {}", "a melted {}"]
    said = {"a bell": -0.2, "a small bell": -0.6, "a broken bell": -1.1, "a melted bell": -1.4}
    scores = {(0, f"an icon of {text}"): score(value) for text, value in said.items()}
    kept, dropped = keep_contents([BELL], [contents], scores, PHRASE)
    assert kept == [["a {}", "a small {}", "a broken {}"]]  # within one nat of the plain form
    assert [row.content for row in dropped] == ["a melted {}"] and "-1.40, clearly below -1.20" in dropped[0].reason


def test_a_content_that_loses_by_chance_is_kept() -> None:
    noisy = Score(-4.0, 3.0, -9.0, 0.5)
    scores = {(0, "an icon of a bell"): score(-0.2), (0, "an icon of a small bell"): noisy}
    assert keep_contents([BELL], [["a {}", "a small {}"]], scores, PHRASE)[1] == []


def test_a_content_that_is_even_likely_is_kept_whatever_the_plain_form_says() -> None:
    scores = {(0, "an icon of a bell"): score(-0.01), (0, "an icon of a small bell"): score(-0.69)}
    assert keep_contents([BELL], [["a {}", "a small {}"]], scores, PHRASE)[1] == []


def test_a_content_that_loses_most_classes_is_dropped_for_all_though_no_class_alone_can_tell() -> None:
    senses = [Sense(name, (Wording(name, "name"),)) for name in (f"bell {number}" for number in range(8))]
    scores = {}
    for label, sense in enumerate(senses):
        for content, value in (("", -1.0), ("small ", -2.8 - label % 2), ("big ", -1.6 + label % 2)):
            scores[label, f"an icon of a {content}{sense.text}"] = Score(value, 2.0, -9.0, 0.5)
    contents = [["a {}", "a small {}", "a big {}"]] * 8
    kept, dropped = keep_contents(senses, contents, scores, PHRASE)
    assert kept == [["a {}", "a big {}"]] * 8 and len(dropped) == 8
    assert dropped[0].reason == "the teacher's log probability is -3.30 over 8 classes, clearly below -2.00"
    assert keep_contents(senses[:7], contents[:7], scores, PHRASE)[1] == []  # too few to be judged together


def test_a_content_without_a_finite_image_is_dropped() -> None:
    kept, dropped = keep_contents([BELL], [["a {}", "a small {}"]], {(0, "an icon of a bell"): score(-0.1)}, PHRASE)
    assert kept == [["a {}"]] and len(dropped) == 1


def test_a_class_never_loses_all_contents() -> None:
    scores = {(0, "an icon of a bell"): score(-0.1), (0, "an icon of a melted bell"): score(-5)}
    assert keep_contents([BELL], [["a melted {}"]], scores, PHRASE)[0] == [["a {}"]]


def count_words(texts: list[str]) -> torch.Tensor:
    """A text encoder that counts words."""
    words = ("crane", "bell", "bird")
    return torch.tensor([[float(text.count(word)) for word in words] for text in texts])


def test_contents_that_sound_like_another_class_are_dropped() -> None:
    contents = [["a {}", "a {} like a bell, bell and bell"], ["a {}", "a big {}"]]
    kept, dropped = keep_near_contents([CRANE, BELL], contents, count_words)
    assert kept == [["a {}"], ["a {}", "a big {}"]]
    assert [(row.class_name, row.reason) for row in dropped] == [("crane", "the text encoder finds it nearer to bell")]


def test_a_generator_without_a_text_encoder_drops_nothing() -> None:
    assert keep_near_contents([BELL], [["a {}"]], lambda texts: None) == ([["a {}"]], [])


def test_every_content_is_probed_once_and_the_plain_form_always() -> None:
    prompts = content_prompts([BELL], [["a small {}", "a small {}"]], 1, PHRASE)
    assert [p.text for p in prompts] == ["an icon of a bell", "an icon of a small bell"]


class _Teacher:
    """Features are the pixels."""

    def features(self, images: torch.Tensor, *, cropped: bool = False) -> torch.Tensor:
        return images.flatten(1)


def test_a_pilot_counts_only_what_the_teacher_accepts() -> None:
    classes = [ClassName("bell"), ClassName("star")]
    senses = [Sense(item.name, (Wording(item.name, "name"),)) for item in classes]
    plan = diversified_plan(classes, senses, [["a {}"]] * 2, with_defaults(PromptsConfig(), "pictograms"), 0)
    pixels = np.random.default_rng(0).integers(0, 255, (80, 4, 4), dtype=np.uint8)
    pixels[20:] = pixels[0]
    pilot = [
        Sample(i, pixels[i], plan[i].label, {"style": plan[i].style, "teacher_top1": 0})  # sees class 0 everywhere
        for i in range(80)
    ]
    found = judge_pilot(_Teacher(), torch.device("cpu"), plan, pilot)  # type: ignore[arg-type]
    assert found.class_novelty[1] == 0.5  # refused: nothing is known
    assert found.class_novelty[0] == pytest.approx((9 + 2) / (40 + 4))  # of its first ten images one has copies
    assert len(found.style_factors) == len(plan.styles)


class _Answers:
    """Class 0 for bright images, class 1 for dark ones."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        bright = images.flatten(1).mean(1)
        return 8 * torch.stack([bright, 1 - bright], 1)

    def to(self, device: torch.device) -> "_Answers":
        return self


def test_what_a_guide_gets_wrong_comes_more_often() -> None:
    classes = [ClassName("bell"), ClassName("star")]
    senses = [Sense(item.name, (Wording(item.name, "name"),)) for item in classes]
    contents = [["a {}", "a big {}"]] * 2
    plan = diversified_plan(classes, senses, contents, with_defaults(PromptsConfig(), "pictograms"), 0)
    # All images are as their labels say, but for the big ones, which are dark: bells among them are taken for stars
    pixels = [
        np.full((4, 4), 0 if plan.content(i) == "a big {}" or plan[i].label else 255, np.uint8) for i in range(80)
    ]
    samples = [Sample(i, pixels[i], plan[i].label, {"style": plan[i].style}) for i in range(80)]
    answers, recipe = _Answers(), DistillationConfig(hard_label_weight=1.0)
    found = judge_round(answers, answers, torch.device("cpu"), plan, samples, recipe)  # type: ignore[arg-type]
    assert found["class_shares"][0] > 0.6 > 0.4 > found["class_shares"][1]
    assert found["content_factors"]["a big {}"] > 1.4 > 0.6 > found["content_factors"]["a {}"]
    assert sum(found["class_shares"]) == pytest.approx(1) and len(found["style_factors"]) == len(plan.styles)
