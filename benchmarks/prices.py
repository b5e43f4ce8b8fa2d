"""What the parts of a method cost on one thread of a CPU: seconds of its own work, whatever else runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

from benchmarks.embedded import with_adaptation
from prismkd import Session
from prismkd.commands.preview import preview
from prismkd.distillation import TrainingSet
from prismkd.synthesis.synthesizer import Synthesizer

REPEATS, NUM_IMAGES = 5, 48  # all ways to draw take turns
FEW, MANY = 20, 60  # steps of a student: by their difference what comes once per training drops out
FEW_OF_ADAPTER, MANY_OF_ADAPTER = 1, 3


def prices_of_images(session: Session, ways: Mapping[str, Synthesizer]) -> dict[str, list[float]]:
    """Seconds per image of every way to draw, in each repeat; all draw the same prompts."""
    plan, seconds = session.plan("prism", 0), {name: list[float]() for name in ways}
    prompts = [plan[i] for i in range(NUM_IMAGES)]
    for _ in range(REPEATS):
        for name, synthesizer in ways.items():
            seconds[name].append(_spent(partial(synthesizer.draw_all, prompts)) / NUM_IMAGES)
    return seconds


def price_of_step(session: Session, data: TrainingSet) -> float:
    """Seconds per step of a student."""

    def train(num_steps: int) -> float:
        recipe = replace(session.config.distillation, num_steps=num_steps)
        return _spent(lambda: session.distill(data, seed=0, recipe=recipe))

    return (train(MANY) - train(FEW)) / (MANY - FEW)


def price_of_adapter(session: Session, image: float, guided_image: float) -> float:
    """Seconds of training an adapter by the session's settings.

    Args:
        session: whose adapter it is.
        image: seconds of an unguided one, of which a check draws many.
        guided_image: of a guided one, which are drawn once for comparison.
    """
    adaptation = session.config.adaptation

    def train(num_steps: int) -> float:
        few = replace(adaptation, num_steps=num_steps, check_every=num_steps, num_check_images=12)
        with tempfile.TemporaryDirectory() as folder:
            return _spent(lambda: with_adaptation(session, few).train_adapter(Path(folder)))

    step = (train(MANY_OF_ADAPTER) - train(FEW_OF_ADAPTER)) / (MANY_OF_ADAPTER - FEW_OF_ADAPTER)
    checks = 1 + -(-adaptation.num_steps // adaptation.check_every)
    return adaptation.num_steps * step + adaptation.num_check_images * (checks * image + guided_image)


def probes_of(session: Session) -> int:
    """Unguided images that are drawn before the first one of a diversified method."""
    cost = preview(session.config, 0).cost
    return cost.sense_probes + cost.content_probes


def over_repeats(prices: Mapping[str, list[float]]) -> dict[str, float]:
    """The means."""
    return {name: mean(values) for name, values in prices.items()}


def _spent(work: Callable[[], object]) -> float:
    """Seconds of this process's CPU."""
    start = time.process_time()
    work()
    return time.process_time() - start
