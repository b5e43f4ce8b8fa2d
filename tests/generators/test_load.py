"""Generators by name or folder: what is refused, and that a hub model is pinned."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline

from prismkd.assets import asset
from prismkd.config import GeneratorConfig
from prismkd.config.sources import is_hub_model
from prismkd.errors import UserError
from prismkd.generators import TextToImage, load_generator, pinned, resolve_device

from .tiny_pipelines import build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pipeline, _ = build("sd-DDIM")
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=True)
    return tmp_path / "model"


def test_a_folder_of_a_stable_diffusion_pipeline_draws(folder: Path) -> None:
    config = GeneratorConfig(source=str(folder), num_inference_steps=3, image_size=32)
    generator = load_generator(config)
    assert generator.tiny_decoder is None
    assert generator.sample(["a bell"], [1]).shape == (1, 3, 32, 32)


def test_another_scheduler_by_name(folder: Path) -> None:
    generator = load_generator(GeneratorConfig(source=str(folder), scheduler="DEISMultistepScheduler"))
    assert type(generator.pipeline.scheduler).__name__ == "DEISMultistepScheduler"
    with pytest.raises(UserError, match=r"expected generator\.scheduler to be one of"):
        load_generator(GeneratorConfig(source=str(folder), scheduler="KarrasVeScheduler"))


def test_a_flow_model_keeps_to_flow_schedulers(tmp_path: Path) -> None:
    pipeline, _ = build("sana-FlowMatchEulerDiscrete-3.0")
    pipeline.save_pretrained(tmp_path / "sana")
    other = load_generator(GeneratorConfig(source=str(tmp_path / "sana"), scheduler="UniPCMultistepScheduler"))
    assert other.pipeline.scheduler.config.prediction_type == "flow_prediction"
    assert other.pipeline.scheduler.config.flow_shift == 3.0
    with pytest.raises(UserError, match="expected a scheduler for a flow model"):
        load_generator(GeneratorConfig(source=str(tmp_path / "sana"), scheduler="DDIMScheduler"))


def test_a_noise_model_keeps_away_from_flow_schedulers(folder: Path) -> None:
    with pytest.raises(UserError, match="expected a scheduler for a model that predicts noise or v"):
        load_generator(GeneratorConfig(source=str(folder), scheduler="FlowMatchEulerDiscreteScheduler"))


def test_a_tiny_decoder_of_other_latents_is_refused(folder: Path, tmp_path: Path) -> None:
    AutoencoderTiny(latent_channels=7).save_pretrained(tmp_path / "tiny")
    with pytest.raises(UserError, match="expected a tiny decoder of 4 latent channels, got 7"):
        load_generator(GeneratorConfig(source=str(folder), tiny_decoder=str(tmp_path / "tiny")))


def test_a_named_tiny_decoder_is_used(folder: Path, tmp_path: Path) -> None:
    settings = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
                "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}  # fmt: skip
    AutoencoderTiny(latent_channels=4, **settings).save_pretrained(tmp_path / "tiny")
    generator = load_generator(GeneratorConfig(source=str(folder), tiny_decoder=str(tmp_path / "tiny")))
    assert generator.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 16, 16)


def test_gradients_pass_the_full_decoder_where_the_setting_says_none() -> None:
    generator = load_generator(GeneratorConfig(tiny_decoder="none"))
    latents = torch.randn(1, generator.pipeline.vae.config.latent_channels, 8, 8)
    assert (asset("generator") / "tiny_vae").is_dir() and generator.tiny_decoder is None
    with torch.no_grad():
        assert torch.equal(generator.decode(latents), generator.decode_fully(latents))


def test_pickled_weights_are_refused(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        torch.save({}, file.with_suffix(".bin"))
        file.unlink()
    with pytest.raises(UserError, match="safetensors"):
        load_generator(GeneratorConfig(source=str(folder)))


def test_a_pipeline_without_a_decoder_is_refused() -> None:
    pipeline, _ = build("sd-DDIM")
    pipeline.vae = None
    with pytest.raises(UserError, match="expected a latent diffusion pipeline with a vae"):
        TextToImage(pipeline, None, GeneratorConfig())


def test_prompts_that_dit_does_not_know_are_refused_with_the_nearest() -> None:
    pipeline, _ = build("dit-DDIM")
    generator = TextToImage(pipeline, None, GeneratorConfig())
    with pytest.raises(UserError, match="like bell"):
        generator.sample(["a bell"], [0])


def test_a_device_that_is_not_here_is_refused() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="expected a device of this machine"):
        resolve_device("cuda:77")


def test_hub_names_are_told_from_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert is_hub_model("org/name")
    assert not is_hub_model("models/mine")
    assert not is_hub_model("pictograms")


def test_a_full_commit_is_pinned_already_and_the_newest_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    config = GeneratorConfig(source="org/name", revision=commit)
    assert pinned(config) is config

    def model_info(name: str, revision: str | None) -> object:
        return type("Info", (), {"sha": commit})

    monkeypatch.setattr("huggingface_hub.model_info", model_info)
    assert pinned(replace(config, revision="")).revision == commit


def test_an_unreachable_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def model_info(name: str, revision: str | None) -> object:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.model_info", model_info)
    with pytest.raises(UserError, match="no route to host; give a folder"):
        pinned(GeneratorConfig(source="org/name"))


def test_a_hub_model_comes_from_the_cache_at_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache as the hub's client lays it out, without network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = GeneratorConfig(source="org/name", revision=commit, tiny_decoder="none", num_inference_steps=2)
    try:
        generator = load_generator(config)
    except UserError as error:  # diffusers keeps its own copy of the cache path
        pytest.fail(str(error))
    assert generator.sample(["a cat"], [0]).shape[0] == 1


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model_index\.json"):
        load_generator(GeneratorConfig(source=str(tmp_path)))


def test_the_embedded_pipeline_needs_no_code_of_its_own() -> None:
    index = json.loads((asset("generator") / "model_index.json").read_text())
    libraries = {value[0] for key, value in index.items() if not key.startswith("_")}
    assert libraries <= {"diffusers", "transformers"}


def test_the_embedded_pipeline_opens_in_one_precision_without_being_told() -> None:
    pipeline = DiffusionPipeline.from_pretrained(asset("generator"))
    parts = (pipeline.text_encoder, pipeline.transformer, pipeline.vae)
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.float32}


def test_loading_says_nothing_of_its_own() -> None:
    """Of the tiny decoder's configuration diffusers would warn in every log."""
    said = list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        load_generator("pictograms")
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == []
