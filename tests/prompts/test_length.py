"""Prompts that a text encoder would cut are counted by its own tokenizer, and said."""

import json
from pathlib import Path

import pytest

import prismkd
from prismkd.assets import asset
from prismkd.classes import ClassName
from prismkd.cli import main
from prismkd.prompts import PromptPlan
from prismkd.prompts.length import CLIP_TOKENS, estimated_tokens, too_long

LONG = "large bird " + " ".join(f"with the part number {number} of its long legs and neck" for number in range(8))
MERGES = ["p h", "ph o", "t o</w>", "pho to</w>", "o f</w>"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of a pipeline with CLIP's kind of tokenizer, whose vocabulary knows next to nothing."""
    folder = tmp_path / "pipeline"
    (folder / "tokenizer").mkdir(parents=True)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    known = [*letters, *(f"{letter}</w>" for letter in letters), "ph", "pho", "to</w>", "photo</w>", "of</w>"]
    vocabulary = [*dict.fromkeys(known), "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def long_names() -> PromptPlan:
    return prismkd.plan(["x" * 90, "dog"], template="A photo of a {name}, isn't it 3?")


def test_clips_tokens_are_counted_as_transformers_counts_them(clip: Path) -> None:
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer(str(clip / "tokenizer" / "vocab.json"), str(clip / "tokenizer" / "merges.txt"))
    plan = long_names()
    found = too_long(plan, 2, clip)
    assert found is not None and not found.is_estimate
    assert (found.max_tokens, found.count, found.looked_at, found.example) == (77, 1, 2, plan[0].text)
    assert found.longest == len(theirs(plan[0].text)["input_ids"]) > 77
    assert "1 of 2 prompts are longer than the 77 tokens" in str(found)


def test_the_embedded_generators_own_tokenizer_counts() -> None:
    plan = prismkd.plan(["boxer", "dog"], template="a {name} " + "seen from afar " * 12)
    found = too_long(plan, 2, asset("generator"))
    assert found is not None and found.max_tokens == 32 and not found.is_estimate


def test_without_the_tokenizer_words_are_counted_and_it_is_called_an_estimate(tmp_path: Path) -> None:
    plan = prismkd.plan(["crane", "dog"], template="a {name} " + "seen from afar " * 30)
    found = too_long(plan, 2, "some/model")
    assert found is not None and found.is_estimate and found.max_tokens == CLIP_TOKENS
    assert "by an estimate from their words longer than the 77 tokens" in str(found)
    assert estimated_tokens(["a photo of a crane"]) == [7]


@pytest.mark.parametrize(
    ("kind", "folder", "own", "limit"),
    [
        ("StableDiffusion3Pipeline", "tokenizer_3", 10**30, 256),
        ("FluxPipeline", "tokenizer_2", 512, 512),
        ("PixArtSigmaPipeline", "tokenizer", 512, 300),
        ("Another", "tokenizer", 128, 128),
    ],
)
def test_the_longest_of_several_encoders_and_the_pipelines_call_set_the_limit(
    kind: str, folder: str, own: int, limit: int, clip: Path
) -> None:
    (clip / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    (clip / folder).mkdir(exist_ok=True)
    (clip / folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": own}))
    found = too_long(prismkd.plan(["crane", "dog"], template="a {name} " + "seen from afar " * 200), 2, clip)
    assert found is not None and found.max_tokens == limit


def test_a_long_definition_explains_the_name_and_loses_its_end_before_the_style() -> None:
    """CLIP reads 77 tokens: in every prompt of a definition of 90 words the name and the style are among them."""
    plan, bare = (
        prismkd.plan([ClassName("crane", definition=definition), ClassName("dog")], content=False)
        for definition in (LONG, "")
    )
    assert len(LONG.split()) == 90
    texts = [(plan[index].text, bare[index].text) for index in range(0, 200, 2)]
    assert all(text.startswith(f"{start}, large bird with") for text, start in texts)
    assert max(estimated_tokens([text for text, _ in texts])) <= CLIP_TOKENS


def test_a_definition_of_a_few_words_stays_a_noun_of_its_own() -> None:
    plan = prismkd.plan([ClassName("cart", definition="a shopping cart"), ClassName("dog")], domains=["photo"])
    assert plan[0].text.startswith("a photo of a shopping cart")


def test_a_dry_run_and_a_run_say_what_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = ["--prompts.template", "an icon of a {name} " + "seen from afar " * 12, "--prompts.no-content"]
    template += ["--classes", "pictograms-24"]
    domains = ["--prompts.domains", "icon: an icon of {} " + "seen from afar " * 12]
    assert main(["prompts", "--dry-run", *template, *domains]) == 0
    assert "warning: 24 of 24 prompts are longer than the 32 tokens" in " ".join(capsys.readouterr().out.split())
    arguments = ["--methods", "plain", "--out", str(tmp_path / "run"), *template]
    assert main(["prompts", *arguments]) == 0
    assert capsys.readouterr().err.count("prompts are longer than the 32 tokens") == 1
    assert main(["prompts", *arguments]) == 0
    assert "tokens" not in capsys.readouterr().err
