"""The peers' recipes are files that load, and settings out of range are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from prismkd.config import Config, DistillationConfig
from prismkd.config.load import check_config, load_config
from prismkd.distillation.loop import learning_rate
from prismkd.errors import UserError

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"


def test_the_peers_recipes_say_what_they_report() -> None:
    dm_kd, rded = (load_config(RECIPES / f"{name}.toml").distillation for name in ("dm-kd", "rded"))
    assert (dm_kd.optimizer, dm_kd.learning_rate, dm_kd.temperature, dm_kd.hard_label_weight) == ("sgd", 0.1, 10, 0)
    assert (rded.optimizer, rded.learning_rate, rded.temperature) == ("adamw", 1e-3, 20)
    assert (rded.schedule, rded.cutmix, dm_kd.cutmix) == ("half-cosine", 1.0, 0.0)
    assert (rded.augmentation, rded.min_crop_scale) == ("photos", 0.5)
    assert (dm_kd.augmentation, dm_kd.min_crop_scale) == ("photos", 0.08)


def test_a_cosine_ends_at_zero_and_half_a_cosine_at_half() -> None:
    config = DistillationConfig(num_steps=1000, learning_rate=1.0)
    ends = {"cosine": 0.0, "half-cosine": 0.5}
    for schedule, end in ends.items():
        rates = [learning_rate(replace(config, schedule=schedule), step) for step in range(1000)]
        assert rates[:50] == sorted(rates[:50]) and rates[50:] == sorted(rates[50:], reverse=True)
        assert rates[-1] == pytest.approx(end, abs=2e-3) and 0.99 < max(rates) <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("hard_label_weight", 1.5), ("real_share", 0.5), ("mixup", -1.0), ("rand_augment", 31), ("optimizer", "adam"),
     ("mixed_precision", "bfloat16"), ("momentum", 1.0), ("stored_top_k", 0), ("num_workers", -1)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"distillation.{name}"):
        check_config(Config(distillation=replace(DistillationConfig(), **{name: value})))
