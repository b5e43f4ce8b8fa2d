"""The adapter beside the layers, and its file: what other programs draw with it is what we draw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from prismkd.adaptation.low_rank import low_rank, save_adapter
from prismkd.generators.lora import Adapter, name_of_denoiser
from tests.adaptation.test_trajectory import KINDS, filled
from tests.adaptation.tiny import plan, synthesizer
from tests.conftest import digest


@pytest.mark.parametrize("name", KINDS)
def test_the_file_loads_in_plain_diffusers_or_peft_and_draws_the_same(name: str, tmp_path: Path) -> None:
    drawing = synthesizer(name)
    generator, pipeline = drawing.generator, drawing.generator.pipeline
    prompts = [plan(name)[index] for index in range(2)]
    network = getattr(pipeline, name_of_denoiser(pipeline))
    texts, seeds, before = [p.text for p in prompts], [p.seed for p in prompts], digest(network)
    with low_rank(pipeline, 2, 0) as matrices:
        filled(matrices)
        save_adapter(pipeline, matrices.state(), 2, tmp_path / "adapter")
        attached = generator.sample(texts, seeds)
        with matrices.off():
            plain = generator.sample(texts, seeds)
    assert digest(network) == before
    assert torch.equal(generator.sample(texts, seeds), plain)

    generator.use_adapter(Adapter.of(str(tmp_path / "adapter")))
    fused = generator.sample(texts, seeds)
    assert torch.allclose(fused, attached, atol=2e-3) and (fused - plain).abs().max() > 0.01
    generator.use_adapter(None)
    assert digest(network) == before

    other = synthesizer(name).generator
    if hasattr(other.pipeline, "load_lora_weights"):
        other.pipeline.load_lora_weights(str(tmp_path / "adapter"))
    else:
        from peft import PeftModel

        PeftModel.from_pretrained(getattr(other.pipeline, "transformer"), str(tmp_path / "adapter"))  # noqa: B009
    assert torch.allclose(other.sample(texts, seeds), attached, atol=2e-3)


def test_the_same_seed_gives_the_same_matrices_and_leaves_torchs_alone(tmp_path: Path) -> None:
    states = []
    torch.manual_seed(5)
    for seed in (3, 3, 4):
        with low_rank(synthesizer().generator.pipeline, 2, seed) as matrices:
            states.append(matrices.state())
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    # The change is zero at first: every B is
    assert all(not tensor.any() for name, tensor in first.items() if ".lora_B." in name)


def test_attention_and_feed_forward_are_adapted_and_nothing_else() -> None:
    with low_rank(synthesizer().generator.pipeline, 2, 0) as matrices:
        layers = {name.partition(".lora_")[0] for name in matrices.state()}
    assert any(name.endswith("attn2.to_v") for name in layers) and any(".ff.net." in name for name in layers)
    assert all(".attn" in name or ".ff." in name for name in layers)


def test_peft_is_told_what_the_matrices_are(tmp_path: Path) -> None:
    pipeline = synthesizer("dit-DDIM").generator.pipeline
    with low_rank(pipeline, 3, 0) as matrices:
        save_adapter(pipeline, matrices.state(), 3, tmp_path)
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    assert described["r"] == described["lora_alpha"] == 3
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        names = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in file.keys()}  # noqa: SIM118
    assert names == set(described["target_modules"])
