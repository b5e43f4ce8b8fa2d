"""What the teacher says of probes: scores, the contents that it keeps, and the pilot's allocation."""

import math

import numpy as np
import pytest
import torch

from prismkd.config import PromptsConfig
from prismkd.probes import (
    content_prompts,
    keep_contents,
    keep_near_contents,
    pilot_allocation,
    scores_of,
    sense_prompts,
    wording_score,
)
from prismkd.prompts import diversified_plan
from prismkd.prompts.classes import ClassName
from prismkd.prompts.diversify import with_defaults
from prismkd.prompts.senses import Score, Sense, Wording
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


def test_scores_are_means_over_a_wordings_probes() -> None:
    values = [(-1.0, -8.0, 0), (-3.0, -10.0, 1)]
    samples = [
        Sample(i, np.zeros((2, 2), np.uint8), 0, {"prompt": "an icon of a crane", "log_probability": log_probability,
                                                  "energy_after": energy, "teacher_top1": top1})
        for i, (log_probability, energy, top1) in enumerate(values)
    ]  # fmt: skip
    found = scores_of(samples)
    assert found[0, "an icon of a crane"] == Score(-2.0, pytest.approx(1.0), -9.0, 0.5)
    assert wording_score(found, PHRASE)(0, "crane").log_probability == -2.0
    assert wording_score(found, PHRASE)(0, "crane, bird").log_probability == -math.inf  # every probe was broken


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


def test_a_class_never_loses_all_contents() -> None:
    scores = {(0, "an icon of a bell"): score(-0.1), (0, "an icon of a melted bell"): score(-5)}
    assert keep_contents([BELL], [["a melted {}"]], scores, PHRASE)[0] == [["a {}"]]


class _Words:
    """A text encoder that counts words."""

    def text_features(self, texts: list[str]) -> torch.Tensor:
        words = ("crane", "bell", "bird")
        return torch.tensor([[float(text.count(word)) for word in words] for text in texts])


def test_contents_that_sound_like_another_class_are_dropped() -> None:
    contents = [["a {}", "a {} like a bell, bell and bell"], ["a {}", "a big {}"]]
    kept, dropped = keep_near_contents([CRANE, BELL], contents, _Words())  # type: ignore[arg-type]
    assert kept == [["a {}"], ["a {}", "a big {}"]]
    assert [(row.class_name, row.reason) for row in dropped] == [("crane", "the text encoder finds it nearer to bell")]


def test_a_generator_without_a_text_encoder_drops_nothing() -> None:
    class Blind:
        def text_features(self, texts: list[str]) -> None:
            return None

    assert keep_near_contents([BELL], [["a {}"]], Blind()) == ([["a {}"]], [])  # type: ignore[arg-type]


def test_every_content_is_probed_once_and_the_plain_form_always() -> None:
    prompts = content_prompts([BELL], [["a small {}", "a small {}"]], 1, PHRASE)
    assert [p.text for p in prompts] == ["an icon of a bell", "an icon of a small bell"]


class _Teacher:
    """Sees class 0 everywhere, features are the pixels."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_a_pilot_counts_only_what_the_teacher_accepts() -> None:
    classes = [ClassName("bell"), ClassName("star")]
    senses = [Sense(item.name, (Wording(item.name, "name"),)) for item in classes]
    config = with_defaults(PromptsConfig(), "pictograms")
    plan = diversified_plan(classes, senses, [["a {}"]] * 2, config, 0)
    images = torch.rand(80, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[20:] = images[0]
    found = pilot_allocation(_Teacher(), plan, images, range(80))  # type: ignore[arg-type]
    assert found.class_novelty[1] == 0.5  # refused: nothing is known
    assert found.class_novelty[0] == pytest.approx((9 + 2) / (40 + 4))  # of its first ten images one has copies
    assert len(found.style_factors) == len(plan.styles)
