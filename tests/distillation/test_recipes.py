"""The peers' recipes are files that load, and settings out of range are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from prismkd.config import Config, DistillationConfig
from prismkd.config.load import check_config, load_config
from prismkd.errors import UserError

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"


def test_the_peers_recipes_say_what_they_report() -> None:
    dm_kd, rded = (load_config(RECIPES / f"{name}.toml").distillation for name in ("dm-kd", "rded"))
    assert (dm_kd.optimizer, dm_kd.learning_rate, dm_kd.temperature, dm_kd.hard_label_weight) == ("sgd", 0.1, 10, 0)
    assert (rded.optimizer, rded.learning_rate, rded.temperature) == ("adamw", 1e-3, 20)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hard_label_weight", 1.5), ("real_share", 0.5), ("mixup", -1.0), ("rand_augment", 31), ("optimizer", "adam"),
     ("mixed_precision", "bfloat16"), ("momentum", 1.0), ("stored_top_k", 0), ("num_workers", -1)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"distillation.{name}"):
        check_config(Config(distillation=replace(DistillationConfig(), **{name: value})))
