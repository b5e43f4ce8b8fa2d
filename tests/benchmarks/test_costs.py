"""What the recipes cost: architectures as published, speeds as measured, and the recorded table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image

from benchmarks import costs
from benchmarks.cost.flops import count_pieces
from benchmarks.cost.more_shapes import FLUX_SCHNELL, HUB_MODELS, PIXART_SIGMA, SANA, SD_35
from benchmarks.cost.shapes import SHAPES, Shape, _packed, _unpacked, shape_networks
from benchmarks.on_gpu.scale import tiny_shape
from prismkd.classifiers import count_parameters
from prismkd.config import Config, GeneratorConfig
from prismkd.errors import UserError

RECORDED = json.loads((costs.RESULTS / "costs.json").read_text())
TINY_SHAPE = tiny_shape(SHAPES["sdxl"])
GPU = json.loads((costs.RESULTS / "gpu.json").read_text())
WORK = costs.Work(
    recipe="a.toml", generator="SD 1.5 at 512", measured_as="sd-1.5", images=3600, probes=360, steps=20, guided_steps=8,
    decoder="tiny", unguided_tflops=10.0, guidance_tflops=1.0, student="resnet18", training_images=7200,
    training_gflops=20.0, pixels=10_000, image_format="jpeg 95", cached_pixels=50_000,
)  # fmt: skip
RATES = costs.Rates({"sd-1.5": 20.0, "dit-xl": 10.0}, {"sd-1.5": {"tiny": 2.0, "full": 4.0},
                    "dit-xl": {"tiny": 1.0, "full": 1.0}}, training=100.0, hardware="")  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "millions"), [(PIXART_SIGMA, 611), (SANA, 592), (SD_35, 2243), (FLUX_SCHNELL, 11_891)],
    ids=lambda value: value.title if isinstance(value, Shape) else "",
)  # fmt: skip
def test_shapes_have_the_published_numbers_of_parameters(shape: Shape, millions: float) -> None:
    with costs.META:
        assert count_parameters(shape.new_denoiser()) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_tokens_are_those_of_the_flux_pipeline_and_come_back() -> None:
    latents = torch.arange(2 * 16 * 4 * 6.0).view(2, 16, 4, 6)
    assert torch.equal(_packed(latents), FluxPipeline._pack_latents(latents, 2, 16, 4, 6))
    assert torch.equal(_unpacked(_packed(latents), latents), latents)


def test_a_step_without_classifier_free_guidance_costs_half() -> None:
    small = replace(TINY_SHAPE, num_passes=1)
    one, two = (count_pieces(shape_networks(shape, costs.META)) for shape in (small, TINY_SHAPE))
    assert 2 * one.denoise.forward == two.denoise.forward
    assert one.decoders == two.decoders


# --- the recorded table ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rates() -> costs.Rates:
    return costs.measured_rates(GPU)


@pytest.mark.parametrize("path", costs.CONFIGS, ids=lambda path: path.stem)
def test_the_recorded_costs_are_those_of_the_recipes(path: Path, rates: costs.Rates) -> None:
    """Else: python -m benchmarks.costs --record && python -m benchmarks.publish."""
    row = costs.cost_row(costs.count_work(path), rates, RECORDED["bytes_per_pixel"], RECORDED["price"])
    (recorded,) = (found for found in RECORDED["rows"] if found["recipe"] == row["recipe"])
    assert list(recorded) == list(row)
    assert {key: (recorded[key], row[key]) for key in row if not equal(recorded[key], row[key])} == {}


def test_the_recorded_costs_are_of_every_recipe() -> None:
    recipes = [path.relative_to(costs.ROOT / "configs").as_posix() for path in costs.CONFIGS]
    assert [row["recipe"] for row in RECORDED["rows"]] == recipes


def equal(recorded: Any, computed: Any) -> bool:
    """Whether two cells agree, numbers but for rounding."""
    return recorded == (computed if isinstance(computed, str) else pytest.approx(computed, rel=1e-3))


# --- what it comes to --------------------------------------------------------------------------------------------


def test_a_measured_recipe_draws_at_the_measured_speed(rates: costs.Rates) -> None:
    """Stable Diffusion 1.5 in 20 steps under a ResNet-50 is what was timed, plain and guided."""
    (path,) = (path for path in costs.CONFIGS if path.stem == "imagenette")
    row = costs.cost_row(costs.count_work(path), rates, {"jpeg 95": 1.0}, 1.0)
    timed = GPU["parts"]["sd-1.5"]["batch 8"]
    assert row["images_per_second"]["plain"] == pytest.approx(timed["unguided"]["images_per_second"], rel=1e-3)
    assert row["images_per_second"]["guided"] == pytest.approx(timed["x0, tiny decoder"]["images_per_second"], rel=1e-2)


def test_hours_gigabytes_and_dollars_by_hand() -> None:
    row = costs.cost_row(WORK, RATES, {"jpeg 95": 0.5}, price=2.0)
    assert row["images_per_second"] == {"plain": 2.0, "guided": 1.0}  # 10 / 20 s, and 1 / 2 s more
    assert row["drawing_hours"] == {"plain": 0.5, "guided": 1.0 + 0.05}  # 360 probes at half a second
    assert row["training_hours"] == pytest.approx(7200 * 0.02 / 100 / 3600)
    assert row["gigabytes"] == {"images": pytest.approx(0.018), "cache": pytest.approx(0.54)}
    assert row["dollars"]["guided"] == pytest.approx(2 * (1.05 + row["training_hours"]))


def test_what_was_not_measured_draws_at_the_best_measured_speed() -> None:
    assert RATES.of(replace(WORK, measured_as="dit-xl")) == (10.0, 1.0)
    assert RATES.of(replace(WORK, measured_as="")) == (20.0, 2.0)
    assert RATES.of(replace(WORK, measured_as="", decoder="full")) == (20.0, 4.0)


def test_the_size_of_files_is_measured_on_photographs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.new("RGB", (80, 60)).save(tmp_path / "b.png")
    found = costs.bytes_per_pixel(tmp_path, {"jpeg 95", "jpeg 50", "png 95"})
    assert 0 < found["jpeg 50"] < found["jpeg 95"] < found["png 95"] < 3
    with pytest.raises(UserError, match="expected photographs in"):
        costs.bytes_per_pixel(tmp_path / "none", {"jpeg 95"})


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected a generator among .*, got pictograms at 0"):
        costs.hub_model(Config())
    other_size = GeneratorConfig(source=next(iter(HUB_MODELS)), image_size=768)
    with pytest.raises(UserError, match="at 768"):
        costs.hub_model(Config(generator=other_size))
    with pytest.raises(UserError, match="expected a teacher timm:NAME@FILE or torchvision:NAME, got teachers/mine"):
        costs.teacher_network("teachers/mine")
