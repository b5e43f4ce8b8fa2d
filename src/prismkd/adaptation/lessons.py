"""Which prompts an adapter learns from, and by which it is checked: of the run's plan, at seeds of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count, islice

from prismkd.adaptation.check import IMAGES_PER_CLASS
from prismkd.prompts import Prompt, PromptPlan
from prismkd.prompts.plan import HELD_OUT_START

MAX_TURNS = 1000  # of a class, among which a style that isn't there is looked for


def lessons(
    plan: PromptPlan, batch_size: int, guided_styles: Collection[str] | None, per_class: int
) -> Iterator[list[Prompt]]:
    """Batches of prompts without an end.

    Classes take turns with ``per_class`` prompts each. Where only some styles are guided, every second turn of a class
    is of the others, of which an adapter has to learn to leave them as they are.

    Args:
        plan: of the methods that will draw with the adapter.
        batch_size: prompts of a batch.
        guided_styles: names of the styles; None: all are guided.
        per_class: of a batch, from 1: two of a class at least where images of a class act on each other.
    """
    num_classes = len(plan.subjects)
    guided = [_of_class(plan, label, guided_styles, wanted=True) for label in range(num_classes)]
    others = [_of_class(plan, label, guided_styles, wanted=False) for label in range(num_classes)]
    batch = list[Prompt]()
    for turn in count():
        round_, label = divmod(turn, num_classes)
        # Classes with even and odd numbers take the two kinds in opposite order, so that a batch has both
        is_guided = guided_styles is None or (round_ + label) % 2 == 0
        batch += islice(guided[label] if is_guided else others[label], per_class)
        while len(batch) >= batch_size:
            yield batch[:batch_size]
            batch = batch[batch_size:]


def check_prompts(plan: PromptPlan, num_images: int, guided_styles: Collection[str] | None) -> list[Prompt]:
    """Prompts in guided styles that no adapter learns from: 12 each of classes that are spread over the list."""
    num_classes = len(plan.subjects)
    chosen = min(num_classes, max(1, num_images // IMAGES_PER_CLASS))
    labels = [place * num_classes // chosen for place in range(chosen)]
    start = -(-HELD_OUT_START // num_classes)  # turns of each class
    of_class = (_of_class(plan, label, guided_styles, wanted=True, start=start) for label in labels)
    return [prompt for prompts in of_class for prompt in islice(prompts, IMAGES_PER_CLASS)]


def _of_class(
    plan: PromptPlan, label: int, guided_styles: Collection[str] | None, *, wanted: bool, start: int = 0
) -> Iterator[Prompt]:
    """The plan's prompts of a class whose style is guided, or isn't; all where the class has none of them."""
    num_classes = len(plan.subjects)

    def prompts() -> Iterator[Prompt]:
        return (plan[turn * num_classes + label] for turn in count(start))

    def fits(prompt: Prompt) -> bool:
        return guided_styles is None or (prompt.style in guided_styles) == wanted

    there_are = any(fits(prompt) for prompt in islice(prompts(), MAX_TURNS))
    return filter(fits, prompts()) if there_are else prompts()
