"""LoRA adapters in every kind of pipeline: fused, they draw what diffusers or peft draws with them attached."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prismkd.config import GeneratorConfig
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.generators.load import identity, part_digests
from prismkd.generators.lora import Adapter, adapters_of, fuse_adapters

from .tiny_pipelines import PAIRS, SIZE, build

KINDS = sorted({name.split("-")[0]: name for name in PAIRS}.values())
TARGETS = ["to_q", "to_k", "to_v"]


def denoiser(pipeline: Any) -> nn.Module:
    return pipeline.unet if getattr(pipeline, "unet", None) is not None else pipeline.transformer


def filled(network: nn.Module, seed: int) -> nn.Module:
    """The adapter's matrices, of which peft leaves one at zero, are random."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def saved(name: str, folder: Path, seed: int = 0) -> Path:
    """An adapter for a pipeline of the list, saved as users save theirs."""
    pipeline, _ = build(name)
    config = LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS)
    if not hasattr(pipeline, "load_lora_weights"):
        filled(get_peft_model(denoiser(pipeline), config), seed).save_pretrained(str(folder))
        return folder
    network = denoiser(pipeline)
    network.add_adapter(config)
    part = "unet" if network is getattr(pipeline, "unet", None) else "transformer"
    layers = get_peft_model_state_dict(filled(network, seed))
    extra = {f"{part}_lora_adapter_metadata": network.peft_config["default"].to_dict()}
    type(pipeline).save_lora_weights(str(folder), **{f"{part}_lora_layers": layers}, **extra)
    return folder


def draw(pipeline: Any, name: str) -> Tensor:
    scale = build(name)[1]
    size = 0 if name.startswith("dit") else SIZE
    config = GeneratorConfig(num_inference_steps=3, guidance_scale=scale, image_size=size)
    prompts = ["bell", "cat"] if name.startswith("dit") else ["a photo of a bell", "a photo of a cat"]
    return TextToImage(pipeline, None, config).sample(prompts, [3, 4])


def fused(name: str, *entries: str) -> Any:
    pipeline, _ = build(name)
    fuse_adapters(pipeline, adapters_of(entries))
    return pipeline


@pytest.mark.parametrize("name", KINDS)
def test_a_fused_adapter_draws_as_an_attached_one(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path / "adapter")
    attached, _ = build(name)
    if hasattr(attached, "load_lora_weights"):
        attached.load_lora_weights(str(folder))
    else:
        from peft import PeftModel

        PeftModel.from_pretrained(attached.transformer, str(folder))
    plain, with_adapter = draw(build(name)[0], name), draw(attached, name)
    pipeline = fused(name, str(folder))
    assert not any("lora" in key for key in denoiser(pipeline).state_dict())
    assert torch.allclose(draw(pipeline, name), with_adapter, atol=2e-3)
    assert (plain - with_adapter).abs().max() > 0.01


@pytest.mark.parametrize("name", ["sd-DDIM", "pixart-alpha-DPMSolverMultistep"])
def test_weights_multiply_and_several_adapters_add_up(name: str, tmp_path: Path) -> None:
    first, second = (saved(name, tmp_path / str(seed), seed) for seed in (1, 2))
    before = denoiser(build(name)[0]).state_dict()

    def change(*entries: str) -> dict[str, Tensor]:
        after = denoiser(fused(name, *entries)).state_dict()
        return {key: after[key] - before[key] for key in before}

    one, half, other = change(str(first)), change(f"{first}@0.5"), change(f"{second}@-2")
    both = change(f"{first}@0.5", f"{second}@-2")
    assert any(value.abs().max() > 0 for value in one.values())
    for key in before:
        assert torch.allclose(half[key], one[key] / 2, atol=1e-5)
        assert torch.allclose(both[key], half[key] + other[key], atol=1e-5)


def test_a_path_may_have_an_at_sign(tmp_path: Path) -> None:
    folder = saved("sd-DDIM", tmp_path / "v@1")
    assert Adapter.of(str(folder)).weight == 1.0
    assert Adapter.of(f"{folder}@0.25").weight == 0.25


@pytest.mark.parametrize(
    "entry", ["{}/none", "{}/none.safetensors@0.5", "{}/text.txt", "org/name", "{}/a@loud", "{}/a@nan"]
)
def test_what_is_no_adapter_is_one_error(entry: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no weights")
    with pytest.raises(UserError, match="expected a"):
        adapters_of([entry.format(tmp_path)])


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "adapter.safetensors").write_bytes(b"\x10" * 64)
    with pytest.raises(UserError, match="expected a LoRA adapter of StableDiffusionPipeline in"):
        fused("sd-DDIM", str(tmp_path / "adapter.safetensors"))


@pytest.mark.parametrize("name", ["sd-DDIM", "sdxl-EulerDiscrete", "dit-DDIM"])
def test_an_adapter_of_another_network_is_refused(name: str, tmp_path: Path) -> None:
    other = "pixart-alpha-DPMSolverMultistep" if name.startswith("dit") else "sd3-FlowMatchEulerDiscrete-3.0"
    with pytest.raises(UserError, match="expected a LoRA adapter of"):
        fused(name, str(saved(other, tmp_path / "other")))


def test_other_adapters_than_lora_are_refused(tmp_path: Path) -> None:
    folder = saved("dit-DDIM", tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    state = load_file(file)
    save_file(state | {"base_model.model.x.lora_magnitude_vector": torch.ones(2)}, file)
    with pytest.raises(UserError, match="expected LoRA weights alone"):
        fused("dit-DDIM", str(folder))


@pytest.mark.parametrize("change", [{"lora_alpha": "loud"}, {"alpha_pattern": {"(a+)+$": 3}}, {"alpha_pattern": [1]}])
def test_a_description_that_cannot_be_is_one_error(change: dict[str, Any], tmp_path: Path) -> None:
    path = saved("dit-DDIM", tmp_path / "adapter") / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="expected "):
        fused("dit-DDIM", str(path.parent))


def test_without_peft_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters, (pipeline, _) = adapters_of([str(saved("sd-DDIM", tmp_path / "adapter"))]), build("sd-DDIM")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'prismkd\[lora\]'"):
        fuse_adapters(pipeline, adapters)
    fuse_adapters(pipeline, [])


def test_adapter_and_weight_are_part_of_what_drew_an_image(tmp_path: Path) -> None:
    first, second = (str(saved("sd-DDIM", tmp_path / str(seed), seed)) for seed in (1, 2))
    moved = tmp_path / "moved"
    Path(first).rename(moved)
    assert "lora" not in identity(GeneratorConfig())
    found = {
        json.dumps([identity(config), part_digests(config)], sort_keys=True)
        for config in (GeneratorConfig(lora=(str(moved),)), GeneratorConfig(lora=(f"{moved}@0.5",)),
                       GeneratorConfig(lora=(second,)), GeneratorConfig(lora=(str(moved), second)), GeneratorConfig())
    }  # fmt: skip
    assert len(found) == 5
    here = identity(GeneratorConfig(lora=(str(moved),)))
    moved.rename(tmp_path / "again")
    assert identity(GeneratorConfig(lora=(str(tmp_path / "again"),))) == here
