"""The plan: a pure function from an index to (class, sense, content, style, seed).

Nothing of the length of the data set is held in memory: prompt ten million costs what prompt ten does, and workers
agree on every prompt without talking to each other.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate
from operator import itemgetter, mul
from types import MappingProxyType
from typing import Any, TypeVar

from prismkd.config.seeds import derive
from prismkd.errors import UserError
from prismkd.files.documents import REMEDY, as_shape
from prismkd.prompts.content import PLAIN, goes_with
from prismkd.prompts.grammar import compose
from prismkd.prompts.styles import Style
from prismkd.text import shortened

# The R2 sequence, an additive recurrence of low discrepancy in two dimensions (Roberts 2018, "The unreasonable
# effectiveness of quasirandom sequences"): x_t = frac(t / g), y_t = frac(t / g^2), with the plastic number g = 1.3247,
# g^3 = g + 1. Unlike two round robins it spreads pairs: every content soon meets every style, whatever their numbers,
# and any prefix is spread evenly. Random draws would be uneven by the square root of their number.
CONTENT_STEP, STYLE_STEP = 0.7548776662466927, 0.5698402909980532
# sqrt(2) - 1 and the golden ratio's 1 / phi shift each class's sequence, so that a batch of all classes isn't of one
# style. Irrational and other numbers than the steps, so that no class repeats another one's turns.
SILVER, GOLDEN = 0.41421356237309515, 0.6180339887498949
PROBE_SEED = derive(0, "probes")  # of probes and calibration images: the same for all seeds of a run
# Held-out images have plan indices from here on, so that none of their prompts is at an index that a student learned
# from; far below 2^53, so that the turns of the sequences above keep six digits and more behind the point
HELD_OUT_START = 10**10
# Prompts per class, on average, in one round of an uneven allocation; shares are met to 1 / 32 of an even one
CYCLE = 32

Item = TypeVar("Item")


@dataclass(frozen=True)
class Prompt:
    """Everything that determines one image, with the generator's settings.

    Attributes:
        index: in the data set.
        label: of the class.
        class_name: the label's name.
        text: for the generator.
        style: the name of the style.
        seed: of the image's initial noise.
        sense: what the class means, as the prompt's text says it.
    """

    index: int
    label: int
    class_name: str
    text: str
    style: str
    seed: int
    sense: str = ""


@dataclass(frozen=True)
class Subject:
    """What is drawn of one class. A plan's hash is over these fields, so that renaming one makes all plans others.

    Attributes:
        class_name: the label's name.
        text: the class in its sense: a noun, perhaps with an explanation behind a comma.
        contents: phrases with ``{}`` for the text, or ``{s}`` for its plural.
        weights: of the plan's styles; they add up to 1.
    """

    class_name: str
    text: str
    contents: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Phase:
    """A part of a plan in which classes, styles and contents have other shares than before.

    Attributes:
        start: index of its first prompt.
        turns: of each class, how many of its prompts come before.
        shares: of the classes; they add up to 1.
        subjects: with other weights of the styles.
        contents: weights of every subject's contents, which add up to 1; none where all are even.
    """

    start: int
    turns: tuple[int, ...]
    shares: tuple[float, ...]
    subjects: tuple[Subject, ...]
    contents: tuple[tuple[float, ...], ...] = ()

    def turn(self, index: int) -> tuple[int, int]:
        """The label of a prompt of this phase, and its turn."""
        order, quotas = self._round
        rounds, place = divmod(index - self.start, len(order))
        label, earlier = order[place]
        return label, self.turns[label] + rounds * quotas[label] + earlier

    def turns_before(self, index: int) -> tuple[int, ...]:
        """How many prompts of each class come before a place in this phase."""
        order, quotas = self._round
        rounds, place = divmod(index - self.start, len(order))
        begun = Counter(label for label, _ in order[:place])
        return tuple(turns + rounds * quotas[label] + begun[label] for label, turns in enumerate(self.turns))

    @cached_property
    def _round(self) -> tuple[list[tuple[int, int]], list[int]]:
        """One round of the phase: its prompts as (label, earlier prompts of it in the round), and all quotas.

        Prompt t of a label's quota q is put at (t + 1/2) / q of the round: each label is spread evenly, and every
        prefix has nearly the labels' shares.
        """
        total = CYCLE * len(self.shares)
        quotas = _rounded([share * total for share in self.shares], total)
        places = [((turn + 0.5) / quota, label, turn) for label, quota in enumerate(quotas) for turn in range(quota)]
        return [(label, turn) for _, label, turn in sorted(places)], quotas


@dataclass(frozen=True)
class PromptPlan:
    """How prompts are made from an index.

    Attributes:
        subjects: one per class, in the order of the labels.
        styles: the styles that the subjects' weights belong to.
        seed: the run's; image i starts from the same noise in every method, so that methods are compared on it.
        phases: ascending; before the first one all classes have equal shares.
    """

    subjects: tuple[Subject, ...]
    styles: tuple[Style, ...]
    seed: int
    phases: tuple[Phase, ...] = ()

    def __getitem__(self, index: int) -> Prompt:
        """Prompt ``index``, at least 0 and without an upper bound.

        Classes take turns, so that every prefix is balanced. Turn t of class c has the content at frac(t / g + c (sqrt
        2 - 1)) of its list, or of their cumulative weights where a phase has some, and the style at frac(t / g^2 + c /
        phi) of the cumulative style weights. Where the two don't go together, the plain form takes the content's place.
        """
        label, turn, subject = self._turn(index)
        content = self.content(index)
        style = _at((turn * STYLE_STEP + label * GOLDEN) % 1.0, self.styles, subject.weights)
        text = compose(style.phrase, content if goes_with(content, style.phrase) else PLAIN, subject.text)
        return Prompt(index, label, subject.class_name, text, style.name, derive(self.seed, index), subject.text)

    def content(self, index: int) -> str:
        """The content that is planned for a prompt, whether or not its style goes with it."""
        label, turn, subject = self._turn(index)
        position, phase = (turn * CONTENT_STEP + label * SILVER) % 1.0, self._phase(index)
        if phase and phase.contents:
            return _at(position, subject.contents, phase.contents[label])
        return subject.contents[int(position * len(subject.contents))]

    def _turn(self, index: int) -> tuple[int, int, Subject]:
        """The label of a prompt, its turn among those of its class, and the class's subject."""
        phase = self._phase(index)
        label, turn = phase.turn(index) if phase else (index % len(self.subjects), index // len(self.subjects))
        return label, turn, (phase or self).subjects[label]

    def _phase(self, index: int) -> Phase | None:
        """The last phase that has begun at a prompt; None before the first one."""
        return next((phase for phase in reversed(self.phases) if phase.start <= index), None)

    def allocated(
        self, start: int, shares: Sequence[float], factors: Sequence[float],
        of_contents: Mapping[str, float] = MappingProxyType({}),
    ) -> PromptPlan:  # fmt: skip
        """This plan up to ``start``; from there classes have ``shares``, and style weights are times ``factors``.

        Turns of a class go on over all phases, so that contents and styles keep their spread.

        Args:
            start: number of prompts before; not below the last phase's.
            shares: one per class; they add up to 1.
            factors: one per style, above 0.
            of_contents: by content, above 0; 1 where there is none. Without any, contents stay even.
        """
        subjects = [
            replace(subject, weights=_normalized(map(mul, subject.weights, factors))) for subject in self.subjects
        ]
        contents = tuple(
            _normalized(of_contents.get(content, 1.0) for content in subject.contents)
            for subject in (subjects if of_contents else ())
        )
        phase = Phase(start, self._turns_before(start), tuple(shares), tuple(subjects), contents)
        return replace(self, phases=(*self.phases, phase))

    def _turns_before(self, index: int) -> tuple[int, ...]:
        """How many prompts of each class come before an index."""
        phase, count = self._phase(index), len(self.subjects)
        return phase.turns_before(index) if phase else tuple((index + count - 1 - label) // count
                                                             for label in range(count))  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The plan before its first phase as plain data for JSON; ``from_dict`` reads it."""
        # Phases follow from images, and are kept beside these. The last three are fields of earlier versions: a plan's
        # hash, which data sets hold, is over them.
        fields = asdict(self)
        del fields["phases"]
        return {**fields, "pilot": 0, "shares": (), "later": ()}

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], class_names: Sequence[str] = (), name: str = "a plan", *, remedy: str = REMEDY
    ) -> PromptPlan:
        """The plan that ``to_dict`` wrote, checked.

        Args:
            data: as read from JSON.
            class_names: of the labels, which its subjects have to be; empty: any.
            name: of the file, for the error.
            remedy: what the error tells the user to do.

        Raises:
            UserError: other data, or counts that don't agree.
        """
        plan = replace(as_shape(data, cls, name, remedy=remedy), phases=())
        problem = plan._problem(class_names)
        if problem:
            raise UserError(f"expected a plan of prompts in {name}, got {problem}; {remedy}")
        return plan

    def _problem(self, class_names: Sequence[str]) -> str:
        """What doesn't agree in a plan that was read; empty where all does."""
        names = [subject.class_name for subject in self.subjects]
        if not names or names != list(class_names or names):
            return f"{len(names)} subjects that aren't the run's {len(class_names)} classes"
        for subject in self.subjects:
            if not subject.contents:
                return f"no contents of {shortened(subject.class_name)}"
            if len(subject.weights) != len(self.styles) or not _adds_up_to_1(subject.weights):
                return f"no weights of {len(self.styles)} styles that add up to 1 for {shortened(subject.class_name)}"
        return ""

    def hash(self) -> str:
        """A digest of everything that determines the prompts and seeds; a data set's identity holds it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _at(position: float, items: Sequence[Item], weights: Sequence[float]) -> Item:
    """The item at ``position`` in [0, 1) of the cumulative weights, the inverse of their distribution function."""
    for item, end in zip(items, accumulate(weights), strict=True):
        if position < end:
            return item
    # Reached only where rounding makes the weights add up to 1 - 1e-16. Not the last item, whose weight may be 0.
    return max(zip(weights, items, strict=True), key=itemgetter(0))[1]


def _normalized(weights: Iterable[float]) -> tuple[float, ...]:
    """The weights over their sum."""
    found = list(weights)
    total = sum(found)
    return tuple(weight / total for weight in found)


def _adds_up_to_1(shares: Sequence[float]) -> bool:
    return all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) < 1e-6


def _rounded(values: Sequence[float], total: int) -> list[int]:
    """Integers near ``values`` that add up to ``total``, by largest remainders; each at least 1: no class is lost."""
    counts = [max(1, int(value)) for value in values]
    by_remainder = sorted(range(len(values)), key=lambda i: counts[i] - values[i])
    while sum(counts) < total:
        for i in by_remainder[: total - sum(counts)]:
            counts[i] += 1
    while sum(counts) > total:  # where many were raised to 1; the largest can spare it
        counts[counts.index(max(counts))] -= 1
    return counts


def held_out_indices(num_images: int, num_classes: int) -> list[int]:
    """Indices of a plan's held-out prompts, ascending: each class has as many as another or one more.

    Those that go beyond whole rounds over the classes are spread over the list of classes, so that 256 images of 1,000
    classes aren't all of the first ones.
    """
    rounds, rest = divmod(num_images, num_classes)
    # A whole number of rounds: the label of an index is its remainder by the number of classes
    start = -(-HELD_OUT_START // num_classes) * num_classes
    end = start + rounds * num_classes
    return [*range(start, end), *(end + place * num_classes // rest for place in range(rest))]


def check_budget(num_images: int, num_classes: int) -> None:
    """Refuse a budget that leaves classes without an image, which no student could learn.

    Raises:
        UserError: there are fewer images than classes.
    """
    if num_images < num_classes:
        raise UserError(
            f"expected at least one image per class, {num_classes}, got {num_images}; raise the number of images"
        )
