"""Trackers that a training may be shown in, and the packages that they need; imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from prismkd.errors import UserError

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")


def check_tracker(name: str) -> None:
    """Refuse a tracker whose package isn't installed; an empty name is none.

    Raises:
        UserError: says what to install.
    """
    if not name:
        return
    found = find_spec(name)
    if found is None or found.origin is None:  # W&B's own folder of that name, in the current one, is no package
        package = "'prismkd[tensorboard]'" if name == "tensorboard" else name
        raise UserError(f"expected the package {name} for distillation.tracker, got none; pip install {package}")
