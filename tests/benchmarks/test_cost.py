"""What guidance costs: counts that are known by hand, a count of the real sampling, and the promised bounds."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks.cost import __main__ as guidance
from benchmarks.cost.flops import Cost, Pieces, count_cost, count_flops, count_pieces
from benchmarks.cost.rows import Row, band_steps, shape_rows
from benchmarks.cost.seconds import UNGUIDED, VARIANTS, draw_shape, in_band, interleave
from benchmarks.cost.shapes import SHAPES, Shape, embedded_networks, imagenet_teacher, shape_networks
from prismkd.classes import load_classes
from prismkd.classifiers import Classifier, count_parameters
from prismkd.classifiers.networks import new_network
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.generators import TextToImage
from prismkd.guidance import Calibration, EnergyGuidance

META = torch.device("meta")
STEPS = guidance.CostSettings.steps
KEYS = {"shape", "gradient", "decoder", "guided_steps", "guided_share", "gflops", "flops_ratio", "seconds",
        "seconds_ratio", "memory_gib"}  # fmt: skip


@pytest.mark.parametrize(("name", "millions"), [("sd-1.5", 859.5), ("sdxl", 2567.5), ("dit-xl", 675.1)])
def test_shapes_have_the_published_numbers_of_parameters(name: str, millions: float) -> None:
    with META:
        network = SHAPES[name].new_denoiser()
    count = count_parameters(network)
    if name == "dit-xl":  # diffusers keeps a copy of the timestep and label embedding in each of the 28 blocks
        count -= 27 * count_parameters(network.transformer_blocks[0].norm1.emb)
    assert count / 1e6 == pytest.approx(millions, rel=1e-3)


def test_flops_of_known_layers() -> None:
    """Two per multiply-add; the backward pass to the input alone costs as much as the forward pass."""
    with META:
        linear, x = nn.Linear(5, 7).requires_grad_(False), torch.empty(3, 5)
        conv, images = nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False), torch.empty(2, 3, 16, 16)
    assert count_cost(linear, x) == Cost(2 * 3 * 5 * 7, 2 * 3 * 5 * 7)
    pixels = 2 * 2 * 16 * 16 * 8 * 3 * 9
    assert count_cost(conv, images) == Cost(pixels, pixels)


def test_fused_attention_is_counted_forward_and_backward() -> None:
    q = torch.empty(2, 4, 64, 16, device=META)
    products = 2 * 2 * 4 * 64 * 64 * 16  # one matrix product; forward has two, backward four
    found = count_cost(lambda x: nn.functional.scaled_dot_product_attention(x, x, x), q)
    assert found == Cost(2 * products, 4 * products)


def test_flops_of_resnet50_are_the_published_ones() -> None:
    """4.1 G multiply-adds at 224 (He et al. 2016 say 3.8, with the stride in the other convolution)."""
    flops = count_flops(lambda: imagenet_teacher(META)(torch.empty(1, 3, 224, 224, device=META)))
    assert flops / 2e9 == pytest.approx(4.09, abs=0.02)


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Row]]:
    return {name: shape_rows(name, STEPS, GuidanceConfig(), rounds=1, measure=False) for name in SHAPES}


def ratio(rows: list[Row], gradient: str, decoder: str) -> float:
    (found,) = (row.flops_ratio for row in rows if (row.gradient, row.decoder) == (gradient, decoder))
    return found


def test_sdxl_at_1024_costs_at_most_6_percent_more_in_the_worst_case(rows: dict[str, list[Row]]) -> None:
    assert ratio(rows["sdxl"], "x0", "tiny") <= 1.06


def test_sd15_at_512_costs_at_most_10_percent_more_in_the_worst_case(rows: dict[str, list[Row]]) -> None:
    assert ratio(rows["sd-1.5"], "x0", "tiny") <= 1.10


@pytest.mark.parametrize("name", SHAPES)
def test_the_gradient_by_x0_costs_less_than_through_the_denoiser(name: str, rows: dict[str, list[Row]]) -> None:
    found = rows[name]
    assert ratio(found, "none", "none") == 1
    assert ratio(found, "x0", "tiny") < ratio(found, "denoiser, band", "tiny")
    assert ratio(found, "x0", "tiny") < ratio(found, "x0", "full")
    for decoder in ("tiny", "full"):
        assert ratio(found, "denoiser, band", decoder) < ratio(found, "denoiser, every step", decoder)


def test_the_band_is_counted_on_the_schedulers_own_steps() -> None:
    config, everything = GuidanceConfig(), GuidanceConfig(log_snr_min=-99, log_snr_max=99)
    for shape in SHAPES.values():
        assert 0.2 * STEPS <= band_steps(shape.new_scheduler(), STEPS, config) <= 0.5 * STEPS
        assert band_steps(shape.new_scheduler(), STEPS, everything) == STEPS - 1  # the last is never guided


def test_the_sum_of_the_pieces_is_what_real_guided_sampling_does(generator: TextToImage, teacher: Classifier) -> None:
    """The embedded generator's whole sampling, every operation counted, against the pieces counted apart."""
    steps, num_images = generator.config.num_inference_steps, 3
    config = GuidanceConfig(num_views=2, skip_satisfied=False)
    classes = load_classes("pictograms-24")  # of the teacher that all tests share
    prompts, seeds, count = [f"an icon of a {item.name}" for item in classes[:1]] * num_images, [1, 2, 3], len(classes)
    pieces = count_pieces(embedded_networks(generator, teacher, prompts))
    guided_steps = band_steps(type(generator.pipeline.scheduler).from_config(generator.pipeline.scheduler.config),
                              steps, config)  # fmt: skip
    calibration = Calibration(energy_target=[0.0] * count, energy_all=0.0, g_floor=0.0, per_class_count=[0] * count)

    def decode(x0: torch.Tensor) -> torch.Tensor:
        return generator.decode(x0 * 1)  # torch's counter can't follow a leaf into a module

    edit = EnergyGuidance(teacher, decode, torch.zeros(num_images, dtype=torch.long), calibration, config)
    generator.sample(prompts, seeds)  # encodes the prompts
    unguided = count_flops(lambda: generator.sample(prompts, seeds))
    guided = count_flops(lambda: generator.sample(prompts, seeds, edit))
    assert guided_steps == edit.num_band_steps > 0
    assert unguided == pytest.approx(num_images * pieces.unguided(steps), rel=1e-3)
    expected = num_images * (pieces.guided("x0", "tiny", steps, guided_steps, 2, 1.0) - pieces.unguided(steps))
    assert guided - unguided == pytest.approx(expected, rel=1e-3)


FLOPS = st.integers(1, 10**12)
COSTS = st.builds(Cost, FLOPS, FLOPS)
PIECES = st.builds(Pieces, COSTS, st.fixed_dictionaries({"tiny": COSTS, "full": COSTS}), COSTS, FLOPS)
WAYS = st.sampled_from([variant for variant in VARIANTS if variant != UNGUIDED])


@given(PIECES, WAYS, st.integers(1, 50), st.integers(0, 50), st.integers(1, 8), st.floats(0, 1))
def test_guidance_costs_the_same_at_every_guided_step_and_nothing_without(
    pieces: Pieces, way: tuple[str, str], steps: int, guided_steps: int, views: int, share: float
) -> None:
    cost = [pieces.guided(*way, steps, count, views, share) for count in (0, 1, guided_steps)]
    assert cost[0] == pieces.unguided(steps) == pieces.guided(*UNGUIDED, steps, guided_steps, views, share)
    assert cost[2] - cost[0] == pytest.approx(guided_steps * (cost[1] - cost[0]), rel=1e-9)
    assert cost[1] > cost[0]


@given(PIECES, st.integers(1, 8), st.floats(0, 1))
def test_images_that_need_no_gradient_cost_one_look_alone(pieces: Pieces, views: int, share: float) -> None:
    """Whatever the number of views; and the more images need one, and the more views it has, the more it costs."""
    for decoder in ("tiny", "full"):
        costs = {(s, v): pieces.guided("x0", decoder, 10, 1, v, s) for s in (0.0, share, 1.0) for v in (views, 9)}
        assert costs[0.0, views] == costs[0.0, 9]
        assert costs[0.0, views] - pieces.unguided(10) == pieces.decoders[decoder].forward + pieces.teacher
        assert costs[0.0, views] <= costs[share, views] <= costs[1.0, views] < costs[1.0, 9]


def test_timings_are_ratios_to_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round in which the machine is slow is slow for both: the median ratio is 2, that of the medians 1.5."""
    now, clock = [0.0], "benchmarks.cost.seconds.time.perf_counter"
    monkeypatch.setattr(clock, lambda: now[0])

    def takes(*seconds: float) -> Callable[[], None]:
        left = iter(seconds)

        def draw() -> None:
            now[0] += next(left)

        return draw

    draws = {UNGUIDED: takes(1.0, 1.0, 4.0, 2.0), "other": takes(9.0, 2.0, 8.0, 3.0)}  # the first isn't timed
    found = interleave(draws, rounds=3, num_images=2)
    assert found["other"].ratio == 2
    assert found["other"].seconds == 1.5


def test_what_runs_out_of_memory_is_left_out() -> None:
    def too_large() -> None:
        raise torch.OutOfMemoryError("no room")

    found = interleave({UNGUIDED: lambda: None, "other": too_large}, rounds=2, num_images=1)
    assert set(found) == {UNGUIDED}


TINY = Shape(
    "tiny", (4, 4, 4),
    lambda: UNet2DConditionModel(
        sample_size=4, cross_attention_dim=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
    {"encoder_hidden_states": (3, 8)}, SHAPES["sdxl"].new_scheduler, decoder_widths=(32, 32, 32, 32),
)  # fmt: skip


def test_every_way_of_drawing_a_shape_runs() -> None:
    """What a GPU would time, on two small networks and the CPU."""
    torch.manual_seed(0)
    teacher = Classifier(new_network("small-resnet-8", 5, 3), {"num_classes": 5, "in_channels": 3}).eval()
    networks = replace(shape_networks(TINY, torch.device("cpu"), torch.bfloat16), teacher=teacher)
    images = {variant: draw_shape(TINY, networks, 4, variant, GuidanceConfig(num_views=1)) for variant in VARIANTS}
    assert all(image.shape == (1, 3, 32, 32) and image.isfinite().all() for image in images.values())
    assert all(not torch.equal(images[variant], images[UNGUIDED]) for variant in VARIANTS[1:])


def test_the_command_prints_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it with few steps and images; timings aren't judged here."""
    guidance.main(["--json", "--generators", "embedded", "--steps", "3", "--views", "1", "--images", "2",
                   "--rounds", "1", "--calibration-images", "4"])  # fmt: skip
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert all(set(row) == KEYS for row in found)
    assert len(found) == len(VARIANTS) + 1
    assert all(row["seconds"] > 0 and row["seconds_ratio"] > 0 for row in found)
    assert found[0]["seconds_ratio"] == found[0]["flops_ratio"] == 1
    assert 0 <= found[2]["guided_share"] <= 1
    assert "counting FLOPs" in printed.err


def test_the_table_has_a_dash_where_nothing_was_measured(
    rows: dict[str, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    guidance.print_table([*rows["dit-xl"], *rows["sdxl"]], guidance.CostSettings())
    table = capsys.readouterr().out
    assert rows["sdxl"][0].seconds is None
    assert all(word in table for word in ("DiT-XL/2 at 256", "SDXL at 1024", "1.000", "denoiser, every step", " - "))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "expected --steps of at least 1, got 0"),
        (["--steps", "2000"], "at most 1000"),
        (["--calibration-images", "-1"], "expected --calibration-images"),
        (["--generators", "sd-3"], "expected --generators among embedded, sd-1.5, sdxl, dit-xl, got sd-3"),
    ],
)
def test_bad_settings_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        guidance.main(arguments)


def test_the_band_of_levels() -> None:
    from benchmarks.cost.through_denoiser import NoiseLevel

    inside = in_band(GuidanceConfig())
    assert inside(NoiseLevel(0.5, 0.5, 500))
    assert not inside(NoiseLevel(0.0, 1.0, 1000)) and not inside(NoiseLevel(0.9, 0.1, 100))
