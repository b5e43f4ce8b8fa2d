"""The edit of a batch, on an identity decoder and a teacher whose energy is known."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Ensemble
from prismkd.classifiers.networks import SmallResNet
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance import Calibration, EnergyGuidance, X0Map, edit_x0, rms
from prismkd.guidance.energy import free_energy, repulsion_energy
from prismkd.guidance.teacher_energy import TeacherEnergy

MIDDLE = X0Map(1.0, -0.5, 0.0)
PLAIN = GuidanceConfig(augment=False, num_views=1, strength=0.2)
HARD = Calibration([-99.0] * 3, -99.0, 0.0, [1] * 3)


def teacher(seed: int = 0) -> Classifier:
    return as_member(network(seed))


def as_member(module: nn.Module) -> Classifier:
    return Classifier(module, {"num_classes": 3, "in_channels": 1}).eval().requires_grad_(False)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = SmallResNet(3, 4)
        for module in found.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return found


def guidance(config: GuidanceConfig, count: int = 4, calibration: Calibration = HARD) -> EnergyGuidance:
    labels = torch.arange(count) % 3
    return EnergyGuidance(teacher(), lambda x: x, labels, calibration, config)


def latents(count: int = 4) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def energy(images: Tensor) -> Tensor:
    return TeacherEnergy(teacher(), HARD, PLAIN)(images, torch.arange(len(images)) % 3)


def test_an_edit_has_the_asked_length_and_lowers_the_energy() -> None:
    x0 = latents()
    delta = guidance(replace(PLAIN, strength=0.01))(x0, MIDDLE)
    assert delta is not None
    assert torch.allclose(rms(delta), 0.01 * rms(x0), rtol=1e-4)
    assert energy(x0 + delta) < energy(x0)


def test_ascending_is_the_opposite_edit() -> None:
    down, up = (guidance(replace(PLAIN, ascend=sign))(latents(), MIDDLE) for sign in (False, True))
    assert down is not None and up is not None
    assert torch.allclose(down, -up)


ALONE = [{}, {"energy": "free"}, {"energy": "elucd"}]
TOGETHER = {"diversity_weight": 1.0}  # a term of a whole batch


def latents_of_two_steps(count: int, generator: torch.Generator) -> Tensor:
    """(2, count, ...) of any brightness: some images are above the target at one step, others at the other."""
    noise, brightness = torch.rand(2, count, 1, 16, 16, generator=generator), torch.rand(2, count, generator=generator)
    return 3 * brightness.view(2, count, 1, 1, 1) * noise


def edits(steps: Tensor, labels: Tensor, option: dict) -> Tensor:
    """The edits of two steps of sampling, as ``steps`` (2, batch, ...); zero where an image needs none."""
    targets = Calibration([-1.25] * 3, -1.25, 0.0, [1] * 3)
    config = replace(PLAIN, augment=True, num_views=2, **option)
    edit = EnergyGuidance(teacher(), lambda x: x, labels, targets, config)
    found = [edit(x0, MIDDLE) for x0 in steps]
    return torch.stack([torch.zeros_like(steps[0]) if delta is None else delta for delta in found])


@pytest.mark.parametrize("option", [*ALONE, TOGETHER], ids=str)
@settings(max_examples=5)
@given(order=st.permutations(range(5)), seed=st.integers(0, 2**31))
def test_permuted_images_get_permuted_edits(option: dict, order: list[int], seed: int) -> None:
    steps, labels = latents_of_two_steps(5, torch.Generator().manual_seed(seed)), torch.tensor([1, 1, 0, 1, 1])
    found, permuted = edits(steps, labels, option), edits(steps[:, order], labels[order], option)
    # Rounding is divided by something small where directions are alike: by their determinant
    assert torch.allclose(permuted, found[:, order], atol=1e-2 if option == TOGETHER else 1e-6)
    assert found.any()


@pytest.mark.parametrize("option", ALONE, ids=str)
@settings(max_examples=5)
@given(place=st.integers(0, 4), num_others=st.integers(0, 4), seed=st.integers(0, 2**31))
def test_an_images_edit_depends_on_no_other_image(option: dict, place: int, num_others: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps, labels = latents_of_two_steps(5, generator), torch.tensor([1, 1, 0, 1, 1])
    others, their_labels = latents_of_two_steps(num_others, generator), torch.arange(num_others) % 3
    own = slice(place, place + 1)
    found = edits(torch.cat([others, steps[:, own]], dim=1), torch.cat([their_labels, labels[own]]), option)
    assert torch.allclose(found[:, -1:], edits(steps, labels, option)[:, own], atol=1e-6)


def test_of_several_teachers_those_guide_an_image_that_know_its_class() -> None:
    def edit(seed: int) -> Tensor:
        members = [as_member(network(3)), as_member(network(seed))]
        ensemble, labels = Ensemble(members, [[0, 1, -1], [-1, 1, 2]], 3), torch.tensor([0, 1])
        delta = EnergyGuidance(ensemble, lambda x: x, labels, HARD, PLAIN)(latents(2), MIDDLE)
        assert delta is not None
        return delta

    first, second = edit(4), edit(5)
    assert torch.allclose(first[0], second[0])  # the second teacher doesn't know class 0
    assert not torch.allclose(first[1], second[1])


def test_gradients_in_parts_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(PLAIN, augment=True, num_views=2)
    whole, parts = guidance(config), guidance(config)
    for scale in (1.0, 0.9):
        monkeypatch.setattr("prismkd.guidance.edit.LATENTS_AT_ONCE", 2**18)
        expected = whole(latents() * scale, MIDDLE)
        monkeypatch.setattr("prismkd.guidance.edit.LATENTS_AT_ONCE", 300)  # one image of 256 values at a time
        got = parts(latents() * scale, MIDDLE)
        assert expected is not None and got is not None
        assert torch.allclose(expected, got, atol=1e-5)
    assert whole.num_edits is not None and parts.num_edits is not None
    assert torch.equal(whole.num_edits, parts.num_edits)


@pytest.mark.parametrize("mapping", [X0Map(1, -0.5, -2.0), X0Map(1, -0.5, 0.5), X0Map(1, -0.5, 0.0, is_last=True)])
def test_outside_the_band_and_at_the_last_step_nothing_is_done(mapping: X0Map) -> None:
    assert guidance(PLAIN)(latents(), mapping) is None


def test_only_every_kth_step_of_the_band_is_guided() -> None:
    edit = guidance(replace(PLAIN, every=3))
    acted = [edit(latents(), MIDDLE) is not None for _ in range(7)]
    assert acted == [True, False, False, True, False, False, True]


def test_a_satisfied_image_costs_no_gradient() -> None:
    x0 = latents(3)
    with torch.no_grad():
        logits = teacher()(x0)
    own = logits.argmax(1)
    calibration = Calibration((free_energy(logits) + 1.0).tolist(), 0.0, 0.0, [1] * 3)  # all above their energy
    edit = EnergyGuidance(teacher(), lambda x: x, own, replace(calibration, energy_target=[99.0] * 3), PLAIN)
    assert edit(x0, MIDDLE) is None
    assert edit.gradient_sizes == [] and edit.num_edits.tolist() == [0, 0, 0]
    always = EnergyGuidance(teacher(), lambda x: x, own, replace(calibration, energy_target=[99.0] * 3),
                            replace(PLAIN, skip_satisfied=False))  # fmt: skip
    assert always(x0, MIDDLE) is not None


def test_small_gradients_are_not_blown_up() -> None:
    floor = replace(HARD, g_floor=1e6)
    delta = guidance(PLAIN, calibration=floor)(latents(), MIDDLE)
    assert delta is not None and rms(delta).max() < 1e-3


def test_latents_out_of_range_are_noticed() -> None:
    edit = guidance(replace(PLAIN, strength=3.0), calibration=replace(HARD, latent_rms=float(rms(latents()).max())))
    edit(latents(), MIDDLE)
    assert edit.latent_ratio is not None and edit.latent_ratio.max() > 2


@pytest.mark.parametrize(
    "option",
    [
        {"energy": "free"}, {"energy": "joint"}, {"energy": "conditional"}, {"energy": "elucd"},
        {"diversity_weight": 1.0}, {"temperature": 2.0},
    ],
)  # fmt: skip
def test_every_option_changes_the_edit_and_stays_finite(option: dict) -> None:
    base, other = guidance(PLAIN)(latents(), MIDDLE), guidance(replace(PLAIN, **option))
    first = other(latents(), MIDDLE)
    second = other(latents() * 0.9, MIDDLE)
    assert base is not None and first is not None and second is not None
    assert first.isfinite().all() and second.isfinite().all()
    assert not torch.allclose(base, first)
    assert (first * second).sum() > 0


def test_images_repel_each_other_in_the_features_of_one_teacher() -> None:
    both, config = Ensemble([teacher(3), teacher(4)], [[0, 1, 2]] * 2, 3), replace(PLAIN, diversity_weight=1.0)
    with pytest.raises(UserError, match=r"expected one teacher for guidance\.diversity_weight, got several"):
        EnergyGuidance(both, lambda x: x, torch.tensor([0, 1]), HARD, config)(latents(2), MIDDLE)


def test_repulsion_is_lowest_for_orthogonal_images_of_a_class() -> None:
    labels = torch.zeros(4, dtype=torch.long)
    square = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    close = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    assert repulsion_energy(square, labels) < repulsion_energy(close, labels)
    assert repulsion_energy(square, torch.arange(4)) == 0  # images of different classes don't repel


def sampled_mean_shift(num_steps: int, strength: float) -> float:
    """How far guidance moves samples of N(0, I) under DDIM with the optimal denoiser, toward low energy."""
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(num_steps)

    def edit(x0: Tensor, mapping: X0Map) -> Tensor | None:
        inside = -1.2 <= mapping.log_snr <= 0.2 and not mapping.is_last
        return strength * torch.ones_like(x0) * rms(x0) if inside else None

    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    ends = []
    for guide in (lambda x0, mapping: None, edit):
        sample = x.clone()
        with edit_x0(scheduler, guide):
            for t in scheduler.timesteps:
                sigma = math.sqrt(1 - float(scheduler.alphas_cumprod[int(t)]))
                sample = scheduler.step(sigma * sample, t, sample).prev_sample  # E[eps | x_t] of N(0, I) data
        ends.append(sample)
    return float((ends[1] - ends[0]).mean())


def test_one_strength_means_the_same_at_any_number_of_steps() -> None:
    shifts = [sampled_mean_shift(steps, 0.1) for steps in (10, 20, 50, 100)]
    assert min(shifts) > 0.01
    assert max(shifts) / min(shifts) < 1.5


def test_images_that_may_not_be_edited_are_left_alone_and_the_others_are_as_ever() -> None:
    everyone = guidance(PLAIN)
    some, nobody = guidance(PLAIN), guidance(PLAIN)
    some.guided, nobody.guided = torch.tensor([True, False, True, False]), torch.zeros(4, dtype=torch.bool)
    delta, expected = some(latents(), MIDDLE), everyone(latents(), MIDDLE)
    assert delta is not None and expected is not None
    assert (delta[1::2] == 0).all() and torch.allclose(delta[::2], expected[::2], atol=1e-6)
    assert some.num_edits is not None and some.num_edits.tolist() == [1, 0, 1, 0]
    assert some.energy_before is not None and some.energy_before.isnan().tolist() == [False, True, False, True]
    assert nobody(latents(), MIDDLE) is None and nobody.num_band_steps == 1
