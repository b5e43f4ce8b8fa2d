"""Auxiliary batch norms: each kind of image has its own statistics, and the student keeps those of the real ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from prismkd.distillation import TrainingSet, distill, new_student, train
from prismkd.distillation.split_norms import SplitNorms
from prismkd.errors import UserError
from tests.distillation.worlds import CONFIG, bright_side, halves, ignore, mixture, sides

RECIPE = replace(CONFIG, auxiliary_batch_norm=True, num_steps=4)


def test_each_kind_passes_norms_of_its_own() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    real, synthetic = torch.rand(5, 1, 8, 8), 3 + torch.rand(3, 1, 8, 8)
    alone = [network(real), network(synthetic)]  # in training, so each is normalized by itself
    norms = SplitNorms(network)
    norms.num_real = 5
    assert torch.allclose(network(torch.cat([real, synthetic])), torch.cat(alone), atol=1e-5)
    norms.release()
    assert not torch.allclose(network(torch.cat([real, synthetic])), torch.cat(alone), atol=1e-1)


def test_the_students_statistics_are_of_real_images(tmp_path: Path) -> None:
    """Synthetic images are white and real ones black: what the first norm has seen tells which."""
    white, black = torch.full((16, 1, 32, 32), 255, dtype=torch.uint8), torch.zeros(16, 1, 32, 32, dtype=torch.uint8)
    means = {}
    for splits in (False, True):
        student = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1024, 2))
        data = TrainingSet(white, sides(16), (black, sides(16)), real_share=0.5)
        recipe = replace(RECIPE, auxiliary_batch_norm=splits, augmentation="none", ema_decay=0.0)
        train(student, bright_side(), data, recipe, 0, tmp_path / f"{splits}.pt", ignore)
        means[splits] = float(student[0].running_mean)
        assert not student[0]._forward_hooks and not student[0]._forward_pre_hooks
    assert means[True] == 0 and means[False] > 0.1


def test_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prismkd.distillation.loop.CHECKPOINT_EVERY", 2)
    whole, broken, resumed = (new_student(RECIPE, 2, 1, seed=seed) for seed in (0, 0, 9))
    train(whole, bright_side(), mixture(), RECIPE, 0, tmp_path / "whole.pt", ignore)
    steps = iter(range(3))

    def stop(count: int) -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, bright_side(), mixture(), RECIPE, 0, tmp_path / "broken.pt", stop)
    train(resumed, bright_side(), mixture(), RECIPE, 0, tmp_path / "broken.pt", ignore)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "share", "message"),
    [
        ({"mixup": 0.2}, 0.5, "expected one process without mixtures .* got mixup or cutmix"),
        ({"batch_size": 8}, 0.1, "expected two real and two synthetic images in every batch .* got 1 real ones of 8"),
    ],
)
def test_recipes_that_do_not_go_with_split_norms_are_refused(
    settings: dict[str, object], share: float, message: str
) -> None:
    data = TrainingSet(halves(), sides(), (halves(), sides()), share)
    recipe = replace(RECIPE, **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        train(new_student(recipe, 2, 1, 0), bright_side(), data, recipe, 0)


def test_a_student_without_batch_norm_has_nothing_to_split() -> None:
    with pytest.raises(UserError, match=r"expected a student with batch norm .*, got a Sequential without"):
        SplitNorms(nn.Sequential(nn.Linear(2, 2)))


def test_without_real_images_there_is_nothing_to_split() -> None:
    with pytest.raises(UserError, match="expected real images beside the synthetic ones"):
        distill(bright_side().eval(), halves(), student="small-resnet-4", config=RECIPE)
