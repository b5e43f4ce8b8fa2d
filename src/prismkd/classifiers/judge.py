"""The judge: a network that guides nothing, and in whose features images are measured; it need not know the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from prismkd.classes.lists import load_classes
from prismkd.classifiers.checkpoint import load_weights, read_state_dict
from prismkd.classifiers.classifier import Classifier, check_outputs
from prismkd.classifiers.preprocessing import from_timm, to_config
from prismkd.classifiers.sources import keep_classes, load_source
from prismkd.config.embedded import PICTOGRAMS
from prismkd.errors import UserError, warn
from prismkd.foreign import opening


def load_judge(source: str, classes: str | Sequence[str]) -> Classifier:
    """Load the judge, and check that it gives features.

    With an output per class it is taken for a classifier of the run's classes, and says which it sees; so is the
    embedded judge of some of the embedded classes. Any other network is of use by its features alone: a classifier of
    other classes, or a timm network without a head.

    Args:
        source: as the setting ``evaluation.judge``.
        classes: names of the run's classes, or the name of their list.

    Raises:
        UserError: no such source, weights that don't fit, or no features.
    """
    # Never a program: what --trust allows is the teacher.
    class_names = [item.name for item in load_classes(classes)] if isinstance(classes, str) else classes
    judge, num_classes = _headless_timm(source) or load_source(source, embedded="judge").classifier, len(class_names)
    if source == PICTOGRAMS and judge.num_classes != num_classes:
        keep_classes(judge, source, class_names)
    if judge.num_classes == num_classes:
        check_outputs(judge, "judge")  # one image now, rather than an error in the middle of a run
    elif judge.num_classes:
        warn(
            f"the judge {source} knows {judge.num_classes} other classes than the run's {num_classes}: images are "
            "measured in its features alone"
        )
    _check_features(judge, source)
    return judge


def _headless_timm(source: str) -> Classifier | None:
    """The network of timm:NAME@FILE where FILE has no weights for a head; None for all other sources."""
    library, _, rest = source.partition(":")
    name, _, file = rest.partition("@")
    if library != "timm" or not file:
        return None
    import timm

    if not timm.is_model(name):
        return None  # whoever opens it next offers names that are near
    state = read_state_dict(Path(file))
    with opening(f"weights of timm's {name} in {file}", "check both"):
        network: Any = timm.create_model(name, num_classes=0)
    head = network.pretrained_cfg.get("classifier") or ()
    names = [head] if isinstance(head, str) else head  # distilled networks have several
    if not names or any(f"{layer}.weight" in state for layer in names):
        return None
    load_weights(network, state, f"timm's {name} without a head in {file}")
    config = {"num_classes": 0, **to_config(from_timm(network.pretrained_cfg))}
    return Classifier(network.float(), config).eval().requires_grad_(False)


@torch.no_grad()
def _check_features(judge: Classifier, source: str) -> None:
    """Show it one gray image."""
    image = torch.full((1, judge.in_channels, *(judge.preprocess.crop or (32, 32))), 0.5)
    try:
        features = judge.features(image)
        problem = "" if features.isfinite().all() else "values that aren't finite"
    except Exception as error:  # a model's own errors have no common type
        problem = str(error).partition("\n")[0]
    if problem:
        raise UserError(
            f"expected a judge with features before its last layer, got {source}: {problem}; name another, such as a "
            "network of timm"
        )
