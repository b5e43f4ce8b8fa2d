"""The rehearsal's own parts: its generator opens and draws, and a stage that loses what was finished is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.rehearsal import Stage, after, build_generator, new_tokenizer, rehearse
from benchmarks.rehearsal_adaptation import build_sdxl
from prismkd.config import GeneratorConfig
from prismkd.generators import load_generator


@pytest.mark.parametrize("build", [build_generator, build_sdxl])
def test_the_miniatures_open_as_any_pipeline_with_their_tiny_decoders(
    build: Callable[..., None], tmp_path: Path
) -> None:
    build(tmp_path / "generator", tiny=True)
    config = GeneratorConfig(source=str(tmp_path / "generator"), num_inference_steps=1, image_size=128, device="cpu")
    generator = load_generator(config)
    assert generator.sample(["a photo of a tank"], [0]).shape == (1, 3, 128, 128)


def test_the_tokenizer_is_as_large_as_clips_and_cuts_where_clip_cuts() -> None:
    tokenizer = new_tokenizer()
    tokens = tokenizer("a photo of an impala " * 20, truncation=True).input_ids
    assert len(tokenizer) == 49408 and len(tokens) == 77
    assert (tokens[0], tokens[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_a_stage_that_makes_finished_work_anew_is_found_out(tmp_path: Path) -> None:
    log, kept = tmp_path / "log.txt", tmp_path / "kept"
    kept.touch()
    stage = Stage("version", ["--version"], after(0.0), lambda: [kept])
    assert rehearse(stage, log)["files_kept"] == 1
    # The log itself grows with every command, as a finished file must not.
    with pytest.raises(AssertionError, match=r"expected version to keep what was finished, got new log\.txt"):
        rehearse(Stage("version", ["--version"], after(0.0), lambda: [log]), log)
