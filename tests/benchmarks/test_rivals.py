"""Earlier methods: each loss is what its paper says on a small case, its gradients are not zero, and a race ends."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.cost.through_denoiser import CLEAN, NoiseLevel, flow_levels, sample_through_denoiser
from benchmarks.rivals.cmi import Cmi, contrast_losses, resized_crop
from benchmarks.rivals.dafl import Dafl, balance_loss, one_hot_loss
from benchmarks.rivals.deep_inversion import DeepInversion, total_variation
from benchmarks.rivals.diff_dfkd import descend
from benchmarks.rivals.fast import Fast, add_gradients
from benchmarks.rivals.nayer import Nayer, NoisyGenerator, all_classes
from benchmarks.rivals.noise import SmoothNoise
from benchmarks.rivals.pieces import BatchNormStatistics, Best, adversarial_losses, crop_and_flip
from benchmarks.rivals.problem import Problem, Situation
from benchmarks.rivals.race import race, soft_loss
from prismkd.classifiers import Classifier
from prismkd.classifiers.networks import SmallResNet
from prismkd.errors import UserError

SHAPE, NAMES = (3, 16, 16), ("bell", "mouse", "star", "tree")


def problem(*, with_batch_norm: bool = True) -> Problem:
    """A teacher that nobody has trained, but whose batch norms have seen something."""
    torch.manual_seed(0)
    teacher: nn.Module = SmallResNet(len(NAMES), 8, in_channels=3)
    if with_batch_norm:
        teacher.train()(torch.rand(64, *SHAPE))
    else:
        for module in list(teacher.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.GroupNorm(1, child.num_features))
    teacher.get_classifier().weight.data *= 20  # else it is sure of nothing
    config = {
        "num_classes": len(NAMES),
        "architecture": "small-resnet-8",
        "in_channels": 3,
        "mean": [0.5],
        "std": [0.5],
    }
    frozen = Classifier(teacher.eval().requires_grad_(False), config)

    def new_student(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return SmallResNet(len(NAMES), 8, in_channels=3)

    return Problem(frozen, NAMES, SHAPE, new_student, lambda texts: torch.eye(len(texts), 12))


# --- pieces ----------------------------------------------------------------------------------------------------------


def test_the_statistics_are_distances_of_mean_and_variance() -> None:
    norm = nn.BatchNorm2d(2).eval()
    norm.running_mean, norm.running_var = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 4.0])
    x = torch.zeros(2, 2, 1, 2)
    x[0, 0], x[1, 1] = 4.0, 2.0  # means 2 and 1, variances 4 and 1; of single images 4, 0 and 0, 2, without variance
    with BatchNormStatistics(norm) as statistics:
        norm(x)
    assert float(statistics.loss()) == pytest.approx(math.hypot(1, 1) + math.hypot(3, 3))
    alone = [math.hypot(3, 0) + math.hypot(1, 4), math.hypot(1, 2) + math.hypot(1, 4)]
    assert statistics.losses_of_images().tolist() == pytest.approx(alone)
    assert not norm._forward_pre_hooks  # its hook is gone


def test_the_statistics_of_earlier_batches_count_by_the_momentum() -> None:
    norm = nn.BatchNorm2d(1).eval()  # mean 0, variance 1
    with BatchNormStatistics(norm, momentum=0.9) as statistics:
        norm(torch.full((2, 1, 2, 2), 1.0))
        assert float(statistics.loss()) == pytest.approx(1 + 1)
        statistics.remember()
        norm(torch.full((2, 1, 2, 2), 2.0))
        assert float(statistics.loss()) == pytest.approx((0.1 * 2 + 0.9 * 1) + 1)
        statistics.remember()
        norm(torch.zeros(2, 1, 2, 2))
        assert float(statistics.loss()) == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 1)


def test_a_teacher_without_batch_norm_has_no_statistics() -> None:
    teacher = problem(with_batch_norm=False).teacher
    with BatchNormStatistics(teacher) as statistics:
        teacher(torch.rand(2, *SHAPE))
    assert float(statistics.loss()) == 0 and float(statistics.losses_of_images()) == 0


def test_the_adversarial_loss_counts_where_both_agree() -> None:
    teacher = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])  # probabilities 3/4 and 1/4
    student = torch.tensor([[math.log(1.5), 0.0], [0.0, math.log(4)]])  # 0.6 and 0.4; the second of the other class
    divergence = 0.75 * math.log(0.75 / 0.6) + 0.25 * math.log(0.25 / 0.4)
    assert adversarial_losses(student, teacher).tolist() == pytest.approx([-divergence, 0], rel=1e-4)


def test_the_best_batch_is_a_copy() -> None:
    images, best = torch.zeros(1), Best()
    for loss in (2.0, 1.0, 3.0):
        images += 1
        best.offer(images, torch.tensor(loss))
    assert best.images.tolist() == [2.0]


def test_views_are_moved_or_mirrored_images() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, *SHAPE)
    views = crop_and_flip(images)
    assert views.shape == images.shape
    still = [
        any(torch.equal(view, other) for other in (image, image.flip(2)))
        for view, image in zip(views, images, strict=True)
    ]
    assert sum(still) < 16  # one of 81 places is the middle
    crops = resized_crop(images)
    assert crops.shape == images.shape and not torch.equal(crops, images)
    assert float(crops.min()) >= 0 and float(crops.max()) <= 1


def test_soft_labels_are_hintons() -> None:
    student, teacher, temperature = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3), 0.0]]), 2.0
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(soft_loss(student, teacher, temperature)) == pytest.approx(expected, rel=1e-5)


# --- the methods' own losses -----------------------------------------------------------------------------------------


def test_total_variation_adds_up_four_directions() -> None:
    x = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    expected = math.hypot(1, 2) + math.hypot(2, 3) + 4 + 1
    assert float(total_variation(x)) == pytest.approx(expected)


def test_dafls_losses_are_lowest_where_the_teacher_is_sure_and_classes_come_equally() -> None:
    sure = 30 * torch.eye(4)
    assert float(one_hot_loss(sure)) == pytest.approx(0, abs=1e-6)
    assert float(one_hot_loss(torch.zeros(4, 4))) == pytest.approx(math.log(4))
    assert float(balance_loss(sure)) == pytest.approx(-math.log(4))
    assert float(balance_loss(200 * torch.eye(4)[[0, 0]])) == 0  # probabilities of exactly 0: no NaN


def test_the_contrast_is_a_softmax_over_similarities() -> None:
    parts, wholes = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    found = contrast_losses(parts, wholes, temperature=0.5)
    assert float(found[0]) == pytest.approx(math.log(1 + math.exp((0.6 - 1) / 0.5)), rel=1e-5)
    assert float(found[1]) == pytest.approx(math.log(1 + math.exp((0 - 0.8) / 0.5)), rel=1e-5)


def test_the_common_start_gets_the_gradients_of_all_steps() -> None:
    common, generator = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for gradient in (1.0, 2.5):
        generator.weight.grad = torch.tensor([[gradient]])
        add_gradients(common, generator)
    assert common.weight.grad is not None and float(common.weight.grad) == 3.5


def test_noisy_layers_make_different_images_of_one_name() -> None:
    torch.manual_seed(0)
    generator = NoisyGenerator(torch.eye(4, 12), SHAPE, 8)
    assert len(generator.noisy) == 2
    labels = all_classes(4, 8)
    assert labels.tolist() == [0, 1, 2, 3] * 2
    generator.draw_noisy_layers()
    images = generator(labels)
    assert images.shape == (8, *SHAPE) and not torch.allclose(images[0], images[4])
    before = images.detach()
    generator.draw_noisy_layers()
    assert not torch.allclose(before, generator(labels))


def test_all_classes_come_and_the_rest_is_random() -> None:
    labels = all_classes(3, 8)
    assert labels[:6].tolist() == [0, 1, 2] * 2 and len(labels) == 8 and int(labels.max()) < 3


# --- DiffDFKD --------------------------------------------------------------------------------------------------------


def linear(x: Tensor, level: NoiseLevel) -> Tensor:
    return 0.5 * x


def test_without_a_step_it_is_plain_ddim() -> None:
    levels, x = flow_levels([0.9, 0.6, 0.3]), torch.randn(4, 2)
    plain = sample_through_denoiser(linear, x, levels, prediction="flow_prediction")
    assert torch.allclose(descend(linear, x, levels, lambda x0: x0.square().sum(1), 0.0), plain)


def test_a_step_follows_the_gradient_through_the_denoiser() -> None:
    """x0 = (1 - sigma / 2) x of this network, and the loss is x0^2, so x moves by 2 (1 - sigma / 2)^2 x."""
    levels = [NoiseLevel(0.4, 0.6, 600.0), NoiseLevel(0.7, 0.3, 300.0), CLEAN]
    x = torch.tensor([[1.0], [-3.0]])
    moved = x - 0.1 * 2 * 0.7**2 * x
    x0 = 0.7 * moved
    following = 0.7 * x0 + 0.3 * (moved - 0.4 * x0) / 0.6
    found = descend(linear, x, levels, lambda x0: x0.square().sum(1), 0.1)
    assert torch.allclose(found, (1 - 0.15) * following)  # the last step moves nothing


# --- whole races -----------------------------------------------------------------------------------------------------

RIVALS: dict[str, Callable[[], Any]] = {
    "noise": lambda: SmoothNoise(batch_size=16),
    "deep_inversion": lambda: DeepInversion(num_steps=20, batch_size=16),
    "cmi": lambda: Cmi(num_steps=5, batch_size=16),
    "fast": lambda: Fast(num_steps=3, batch_size=16),
    "nayer": lambda: Nayer(num_steps=5, batch_size=16),
    "dafl": lambda: Dafl(batch_size=16),
}


@pytest.mark.parametrize("with_batch_norm", [True, False])
@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_makes_images_within_its_budget(name: str, with_batch_norm: bool) -> None:
    rival, given = RIVALS[name](), problem(with_batch_norm=with_batch_norm)
    found = race(rival, given, 0.5, seed=0)
    assert found.images.dtype == torch.uint8 and found.images.shape[1:] == SHAPE
    assert len(found.images) == len(found.labels) and set(found.labels.tolist()) <= set(range(len(NAMES)))
    assert found.num_rounds >= 1 and found.teacher_passes >= len(found.images) and found.seconds >= 0.5
    assert (found.student is None) == (rival.own_student is None)


@pytest.mark.parametrize("name", ["deep_inversion", "cmi", "fast", "nayer"])
def test_the_images_move_towards_their_labels(name: str) -> None:
    """More than by chance, so gradients reach what they are to change."""
    given = problem()
    rival = RIVALS[name]()
    rival.num_steps, rival.batch_norm_weight = 40, 0.0
    torch.manual_seed(0)
    images, labels = next(iter(rival.rounds(given, lambda: Situation(None, 0.0))))
    losses = [nn.functional.cross_entropy(given.teacher(shown), labels) for shown in (images, torch.rand_like(images))]
    assert losses[0] < losses[1] - 0.05


def test_a_student_takes_part_where_there_is_one() -> None:
    given = problem()

    def first(student: nn.Module | None) -> Tensor:
        torch.manual_seed(1)
        return next(iter(Fast(batch_size=16).rounds(given, lambda: Situation(student, 0.5))))[0]

    assert not torch.equal(first(None), first(given.new_student(0).eval()))


def test_nayer_needs_a_text_encoder() -> None:
    given = problem()
    with pytest.raises(UserError, match="expected a text encoder for NAYER, got none"):
        next(
            iter(Nayer().rounds(Problem(given.teacher, NAMES, SHAPE, given.new_student), lambda: Situation(None, 0.0)))
        )
