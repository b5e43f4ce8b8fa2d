"""LoRA adapters in every kind of pipeline: fused, they draw what diffusers or peft draws with them attached."""

from __future__ import annotations

import json
import re
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
    with pytest.raises(UserError, match="expected a"):
        adapters_of(["x" * 5000])


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "adapter.safetensors").write_bytes(b"\x10" * 64)
    with pytest.raises(UserError, match="expected a LoRA adapter of StableDiffusionPipeline in"):
        fused("sd-DDIM", str(tmp_path / "adapter.safetensors"))


@pytest.mark.parametrize("name", ["sd-DDIM", "sdxl-EulerDiscrete", "dit-DDIM"])
def test_an_adapter_of_another_network_is_refused(name: str, tmp_path: Path) -> None:
    other = "pixart-alpha-DPMSolverMultistep" if name.startswith("dit") else "sd3-FlowMatchEulerDiscrete-3.0"
    with pytest.raises(UserError, match="expected a LoRA adapter of"):
        fused(name, str(saved(other, tmp_path / "other")))


def changed(file: Path, change: dict[str, Tensor | None], metadata: dict[str, str] | None = None) -> Path:
    """The file with these tensors beside its own, or without those that are None."""
    state = {name: tensor for name, tensor in (load_file(file) | change).items() if tensor is not None}
    save_file(state, file, metadata)
    return file


@pytest.mark.parametrize("name", ["sd-DDIM", "dit-DDIM"])
@pytest.mark.parametrize("end", ["lora_A.weight", "lora_B.weight"])
def test_half_a_pair_is_refused(name: str, end: str, tmp_path: Path) -> None:
    """diffusers and peft would take the other half from memory that nobody has written."""
    (file,) = saved(name, tmp_path / "adapter").glob("*.safetensors")
    half = next(key for key in load_file(file) if key.endswith(end))
    with pytest.raises(UserError, match=r"expected pairs of LoRA matrices alone in .*, got "):
        fused(name, str(changed(file, {half: None})))


@pytest.mark.parametrize(
    "odd", ["unet.x.lora_magnitude_vector", "lora_unet_x.dora_scale", "unet.x.hada_w1_a", "unet.norm.weight"]
)
def test_what_is_no_lora_matrix_is_refused(odd: str, tmp_path: Path) -> None:
    (file,) = saved("sd-DDIM", tmp_path / "adapter").glob("*.safetensors")
    with pytest.raises(UserError, match=f"expected pairs of LoRA matrices alone in .*, got '?{odd}"):
        fused("sd-DDIM", str(changed(file, {odd: torch.ones(2)})))
    save_file({}, file)
    with pytest.raises(UserError, match="got none; "):
        fused("sd-DDIM", str(file))


@pytest.mark.parametrize("shapes", [
    ((80_000_000, 0), (0, 80_000_000)), ((2, 8), (8, 3)), ((0, 8), (8, 0)), ((2, 9), (8, 2)), ((5000, 8), (8, 5000)),
    ((2,), (2,)),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused_before_they_are_multiplied(
    shapes: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    (file,) = saved("dit-DDIM", tmp_path / "adapter").glob("*.safetensors")
    down = next(key for key in load_file(file) if "lora_A" in key)
    change: dict[str, Tensor | None] = {down: torch.ones(shapes[0]), down.replace("_A", "_B"): torch.ones(shapes[1])}
    with pytest.raises(UserError, match=r"expected (matrices|a LoRA adapter of)"):
        fused("dit-DDIM", str(changed(file, change)))


@pytest.mark.parametrize("settings", [
    {"unet.use_dora": True}, {"unet.peft_type": "LOHA"}, {"unet.init_lora_weights": "pissa_niter_4"}, [1],
    {"unet.alpha_pattern": {"([a-z_0-9.]+)+[A-Z]": 3}}, {"unet.lora_alpha": "loud"}, {"unet.lora_alpha": float("nan")},
])  # fmt: skip
def test_metadata_that_say_something_else_are_refused(settings: object, tmp_path: Path) -> None:
    (file,) = saved("sd-DDIM", tmp_path / "adapter").glob("*.safetensors")
    with pytest.raises(UserError, match="expected "):
        fused("sd-DDIM", str(changed(file, {}, {"lora_adapter_metadata": json.dumps(settings)})))


def test_parts_may_have_alphas_of_their_own(tmp_path: Path) -> None:
    (file,) = saved("sd-DDIM", tmp_path / "adapter").glob("*.safetensors")
    before = build("sd-DDIM")[0].unet.state_dict()
    changes = []
    for alpha in (3, 6):
        settings = {"text_encoder.lora_alpha": 5, "unet.lora_alpha": alpha}
        after = fused(
            "sd-DDIM", str(changed(file, {}, {"lora_adapter_metadata": json.dumps(settings)}))
        ).unet.state_dict()
        changes.append({key: after[key] - before[key] for key in before})
    assert all(torch.allclose(changes[1][key], 2 * changes[0][key], atol=1e-5) for key in before)


def test_ranks_of_any_size_in_the_metadata_are_not_believed(tmp_path: Path) -> None:
    (file,) = saved("sd-DDIM", tmp_path / "adapter").glob("*.safetensors")
    settings = {"unet.r": 10**9, "unet.lora_alpha": 3, "unet.target_modules": "([a-z_0-9.]+)+[A-Z]"}
    fused("sd-DDIM", str(changed(file, {}, {"lora_adapter_metadata": json.dumps(settings)})))


def test_every_layer_of_kohya_s_files_has_its_own_alpha(tmp_path: Path) -> None:
    """Of the text encoder, too, whose layers have other names than in its own state."""
    pipeline, _ = build("sd-DDIM")
    layers = {f"lora_unet_{name.replace('.', '_')}": module for name, module in pipeline.unet.named_modules()
              if name.endswith(("attn1.to_q", "attn2.to_k"))}  # fmt: skip
    layers |= {f"lora_te_text_model_encoder_layers_{number}_self_attn_q_proj": module
               for name, module in pipeline.text_encoder.named_modules() if name.endswith("self_attn.q_proj")
               for number in [re.findall(r"\d+", name)[0]]}  # fmt: skip
    assert len(layers) > 3
    generator, state, expected = torch.Generator().manual_seed(0), dict[str, Tensor](), list[Tensor]()
    for number, (name, module) in enumerate(layers.items()):
        outputs, inputs = module.weight.shape
        down, up = (torch.randn(shape, generator=generator) for shape in ((2, inputs), (outputs, 2)))
        alpha = 1.0 + number
        state |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(alpha)}
        expected.append(module.weight.detach().clone() + 0.5 * alpha / 2 * up @ down)
    save_file(state, tmp_path / "kohya.safetensors")
    fuse_adapters(pipeline, adapters_of([f"{tmp_path / 'kohya.safetensors'}@0.5"]))
    for module, wanted in zip(layers.values(), expected, strict=True):
        assert torch.allclose(module.weight, wanted, atol=1e-5)


def test_a_folder_that_peft_saved_of_a_unet(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    wrapped = get_peft_model(
        build("sd-DDIM")[0].unet, LoraConfig(r=2, lora_alpha=3, use_rslora=True, target_modules=TARGETS)
    )
    filled(wrapped, 0).save_pretrained(str(folder))
    merged, fused_unet = wrapped.merge_and_unload().state_dict(), fused("sd-DDIM", str(folder)).unet.state_dict()
    assert all(torch.allclose(fused_unet[key], merged[key], atol=1e-5) for key in merged)


def test_nothing_is_said_of_an_adapter_but_the_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved("sdxl-EulerDiscrete", tmp_path / "adapter")
    capfd.readouterr()
    fused("sdxl-EulerDiscrete", str(folder))
    with pytest.raises(UserError):
        fused("sd-DDIM", str(folder))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("change", [{"lora_alpha": "loud"}, {"alpha_pattern": {"(a+)+$": 3}}, {"alpha_pattern": [1]}])
def test_a_description_that_cannot_be_is_one_error(change: dict[str, Any], tmp_path: Path) -> None:
    path = saved("dit-DDIM", tmp_path / "adapter") / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="expected "):
        fused("dit-DDIM", str(path.parent))


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
