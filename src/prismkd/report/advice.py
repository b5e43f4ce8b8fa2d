"""What to do next: rules from what was measured of a student to a diagnosis, and the command that follows from it.

A student's distance to its teacher on new images has two parts: what it misses on its own training images already, and
what it loses from these to new ones. The larger part says what holds it back, as avoidable bias and variance do (Ng
2018, Machine Learning Yearning, chapters 20 to 24). The thresholds below are ours, from students of the embedded world.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice
from math import floor, log10
from typing import Any

from prismkd.config import Config
from prismkd.config.methods import METHODS
from prismkd.records.results import RunResults
from prismkd.records.scores import score, subject
from prismkd.report import formats
from prismkd.report.confusion import main_confusion
from prismkd.report.margins import Margin, margins
from prismkd.report.names import PLACES
from prismkd.report.tables import class_name
from prismkd.report.training import trainings_of, unseen_agreement
from prismkd.report.yardstick import yardstick_of

MISSED = 0.1  # share of images; a smaller part of the distance to the teacher isn't worth another training
STILL_FALLING = 0.05  # of the loss's fall, in the last quarter: .03 after 500 steps of the demo's, .13 after 100
LOW_TEACHER = 0.2  # share of test images that the teacher gets wrong, from which on it can be what holds a student back
UNSEEN_CLASS = 0.2  # share of synthetic images in which the teacher doesn't see the prompted class
MOSTLY_LABELS = 0.5  # share of the loss beyond which a student is to follow the labels rather than its teacher
NUM_CLASSES = 5


@dataclass(frozen=True)
class Standing:
    """What is known of a page's student; shares are in [0, 1], None where they weren't measured.

    Attributes:
        out: the run's folder, for commands.
        method: whose images it learned from.
        num_steps: of its training.
        num_images: that it learned from.
        images_per_class: setting of the run.
        architecture, learning_rate, hard_label_weight: settings of the run.
        on_training: how often it says on its own training images what it was taught, by teacher or labels.
        on_new: the same on other images.
        new_images: which these are, in words.
        last_fall: share of the loss's fall that came in the last quarter of the steps.
        plateaued: whether the loss stopped falling early.
        wrong: by place, share of test images that student and teacher get wrong.
        prompted: share of synthetic images in which the teacher sees the prompted class.
        has_test: whether there were test images.
        undecided: where plain prompts can't be told apart from the student's method, and by how much it is above them.
        seeds: of the run.
        weak_classes: names of the classes on which it follows its teacher least often.
    """

    out: str
    method: str = "prism"
    num_steps: int = 0
    num_images: float = 0.0
    images_per_class: int = 80
    architecture: str = ""
    learning_rate: float = 0.0
    hard_label_weight: float = 0.0
    on_training: float | None = None
    on_new: float | None = None
    new_images: str = ""
    last_fall: float | None = None
    plateaued: bool = False
    wrong: tuple[tuple[str, float, float], ...] = ()
    prompted: float | None = None
    has_test: bool = True
    undecided: tuple[tuple[str, Margin], ...] = ()
    seeds: tuple[int, ...] = (0,)
    weak_classes: tuple[str, ...] = ()

    @property
    def by_labels(self) -> bool:
        """Whether it learned from the images' labels more than from its teacher."""
        return self.hard_label_weight > MOSTLY_LABELS

    @property
    def says(self) -> tuple[str, str]:
        """What a student does that says what it was taught, and the preposition of the images."""
        return ("gives the class", "of") if self.by_labels else ("follows its teacher", "on")


@dataclass(frozen=True)
class Advice:
    """A diagnosis in a few words, what it rests on, and a command; "" where there is none."""

    title: str
    text: str
    command: str = ""


def advice(run: RunResults) -> list[Advice]:
    """What follows from a run's figures for the student that its page is about; empty where none was trained."""
    student, _ = subject(run.results)
    if student not in METHODS or not (trainings_of(run) or yardstick_of(run.results).of(run.results, student, "id")):
        return []
    return advice_for(standing_of(run, student))


def advice_for(standing: Standing) -> list[Advice]:
    """Every rule's advice, what holds the student back most first."""
    found = [item for rule in RULES if (item := rule(standing))]
    return found or fine(standing)


# --- rules -------------------------------------------------------------------------------------------------------


def underfit(at: Standing) -> Advice | None:
    """It doesn't say what it was taught on its own training images: more steps, a larger student, or another rate."""
    if at.on_training is None or 1 - at.on_training < MISSED or 1 - at.on_training < lost(at):
        return None
    does, on = at.says
    text = f"It {does} {on} only {_percent(at.on_training)} of the very images that it learned from"
    if at.plateaued:
        text += ", and the loss fell little after the first quarter. Try another learning rate or architecture."
        return Advice("It stopped learning early", text, distill(at, f"learning-rate {at.learning_rate / 4:.2g}"))
    if at.last_fall is None or at.last_fall >= STILL_FALLING:
        falling = "" if at.last_fall is None else f". {_falling(at.last_fall)}"
        return Advice("Train longer", f"{text}{falling}.", distill(at, f"num-steps {rounded(4 * at.num_steps)}"))
    larger = wider(at.architecture)
    return Advice(
        "A larger student",
        f"{text}, and the loss has leveled off: more steps alone won't help. A larger student may, or a higher "
        f"learning rate ({2 * at.learning_rate:.2g}).",
        distill(at, f"architecture {larger}" if larger else f"learning-rate {2 * at.learning_rate:.2g}"),
    )


def still_falling(at: Standing) -> Advice | None:
    """The loss was still falling at the end, whatever else is known."""
    if at.last_fall is None or at.last_fall < STILL_FALLING or at.plateaued or underfit(at):
        return None
    more = distill(at, f"num-steps {rounded(2 * at.num_steps)}")
    return Advice("Train longer", f"{_falling(at.last_fall)}.", more)


def overfit(at: Standing) -> Advice | None:
    """It says what it was taught on its training images, and not on others: more of them, or more diverse ones."""
    if at.on_training is None or at.on_new is None or lost(at) < MISSED or lost(at) <= 1 - at.on_training:
        return None
    does, on = at.says
    text = (
        f"It {does} {on} {_percent(at.on_training)} of its own {at.num_images:,.0f} training images and {on} "
        f"{_percent(at.on_new)} of the {at.new_images}: it has learned its images rather than its "
        f"{'classes' if at.by_labels else 'teacher'}. Draw more"
    )
    diversified = METHODS[at.method].diversified
    text += "; those that are there stay." if diversified else ", or more diverse ones (method prism)."
    wanted = rounded(3 * at.images_per_class)
    return Advice("More images", text, command(at, "run", f"--synthesis.images-per-class {wanted}"))


def teacher_errs(at: Standing) -> Advice | None:
    """At least half of what the student gets wrong its teacher gets wrong, too: the labels may know more."""
    places = [
        (where, teacher)
        for where, student, teacher in at.wrong
        # By labels a student may get past its teacher, and is then not held back by it.
        if teacher >= LOW_TEACHER and 2 * teacher >= student and not (at.by_labels and student < teacher)
    ]
    if not places:
        return None
    parts = [f"{_percent(1 - teacher)} {PLACES[where]}" for where, teacher in places]
    text = f"The teacher itself reaches {' and '.join(parts)}: most of what the student gets wrong, its teacher does."
    if at.hard_label_weight:
        return Advice("The teacher is the limit", f"{text} A better teacher would help more than a better student.")
    return Advice("The teacher is the limit", f"{text} The classes of the prompts may know more.",
                  distill(at, "hard-label-weight 0.5"))  # fmt: skip


def unseen_classes(at: Standing) -> Advice | None:
    """The teacher doesn't see the prompted class in many synthetic images: senses, or guidance."""
    if at.prompted is None or 1 - at.prompted < UNSEEN_CLASS:
        return None
    text = (
        f"The teacher sees the prompted class in only {_percent(at.prompted)} of the synthetic images. Look at those "
        "with a dotted frame below: a wrong sense is put right by a definition in the class list, other images by "
    )
    text += "stronger guidance (guidance.strength)." if METHODS[at.method].guided else "guidance (method prism or eda)."
    return Advice("Images of other classes", text)


def no_test_images(at: Standing) -> Advice | None:
    """Agreement isn't accuracy; a few labeled images are."""
    if at.has_test:
        return None
    return Advice(
        "Give it test images",
        "How often student and teacher are right, only labeled real images can tell: a folder for each class, and some "
        "dozens of images in each.",
        command(at, "run", "--evaluation.source FOLDER"),
    )


def weak_classes(at: Standing) -> Advice | None:
    """Where there are no test images, classes with a low agreement are what can be looked at."""
    if at.has_test or not at.weak_classes:
        return None
    named = ", ".join(at.weak_classes)
    text = f"It follows its teacher least often on {named}: look at their images and senses below."
    return Advice("Look at single classes", text)


def too_few_to_tell(at: Standing) -> Advice | None:
    """Plain prompts can't be told apart from the student's method: more test images, or more seeds."""
    parts = [
        f"{formats.signed(100 * margin.mean, 1)} points {PLACES[where]}, "
        f"{formats.range_text(margin.interval, lambda value: formats.signed(100 * value, 1))}, on "
        f"{margin.verdict.num_images:,} images"
        for where, margin in at.undecided
        if margin.verdict and margin.interval
    ]
    if not parts:
        return None
    images = "test images" if at.has_test else "held-out images"
    seeds = "one seed" if len(at.seeds) == 1 else f"{len(at.seeds)} seeds"
    more = " ".join(map(str, [*at.seeds, *islice((seed for seed in count() if seed not in at.seeds), 2)]))
    text = (
        f"{'; '.join(parts)}, {seeds}: the interval has zero in it. More {images} narrow it; more seeds take the "
        "chance of one training out."
    )
    return Advice("Too little to tell it from plain prompts", text, command(at, "run", f"--seeds {more}"))


RULES: tuple[Callable[[Standing], Advice | None], ...] = (
    underfit, overfit, still_falling, teacher_errs, unseen_classes, no_test_images, weak_classes, too_few_to_tell,
)  # fmt: skip


def fine(at: Standing) -> list[Advice]:
    """Nothing holds it back that was measured."""
    if at.on_training is None or at.on_new is None:
        return []
    does, on = at.says
    return [Advice(
        "Nothing stands out",
        f"It {does} {on} {_percent(at.on_training)} of its own training images and {on} {_percent(at.on_new)} of the "
        f"{at.new_images}. It is ready to leave the run.",
        command(at, "export", "--to student --dest student"),
    )]  # fmt: skip


# --- what rules have in common -----------------------------------------------------------------------------------


def lost(at: Standing) -> float:
    """What the student loses from its own training images to others; 0 where that isn't known."""
    return 0.0 if at.on_training is None or at.on_new is None else at.on_training - at.on_new


def distill(at: Standing, setting: str) -> str:
    """The command that trains the students anew with another setting, as "num-steps 2000"; the images stay."""
    return command(at, "distill", f"--distillation.{setting}")


def command(at: Standing, name: str, flags: str) -> str:
    """A command on the run, in two lines: a narrow column would break it inside of a flag."""
    return f"prismkd {name} --out {at.out} \\\n  {flags}"


def rounded(number: float) -> int:
    """A count with one or two digits that aren't zero: 460 -> 450, 1480 -> 1500."""
    if number < 10:
        return max(1, round(number))
    unit = 10 ** floor(log10(number))
    return int(round(2 * number / unit) * unit / 2)


def wider(architecture: str) -> str:
    """The embedded kind of student, twice as wide; "" for others, of which nobody knows a larger one."""
    found = re.fullmatch(r"small-resnet-(\d+)((?:x\d+)?)", architecture)
    return f"small-resnet-{2 * int(found[1])}{found[2]}" if found else ""


def _falling(last_fall: float) -> str:
    """Without a full stop."""
    return f"The loss was still falling: {_percent(last_fall)} of its fall came in the last quarter of the steps"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


# --- a run -> its standing ---------------------------------------------------------------------------------------


def standing_of(run: RunResults, student: str) -> Standing:
    """What a run's files say of the student of a method."""
    training, new = trainings_of(run).get(student), unseen_agreement(run, student)
    yardstick, settings = yardstick_of(run.results), dict(run.record.get("config", {}))
    defaults = Config()
    weight = _setting(settings, "distillation", "hard_label_weight", defaults)
    wrong, on_training = _wrong(run, student), training.train_agreement if training else None
    if weight > MOSTLY_LABELS:
        on_training = training.train_top1 if training else None
        # Only labeled images can tell; that it differs from its teacher is what the labels are for.
        new = (1 - wrong[0][1], "test images") if wrong else None
    follows = main_confusion(run, "teacher")
    reached = yardstick.of(run.results, student, yardstick.domains[0])
    return Standing(
        out=shlex.quote(str(run.folder)),
        method=student,
        num_steps=training.num_steps if training else 0,
        num_images=training.num_images if training else 0.0,
        images_per_class=_setting(settings, "synthesis", "images_per_class", defaults),
        architecture=_setting(settings, "distillation", "architecture", defaults),
        learning_rate=_setting(settings, "distillation", "learning_rate", defaults),
        hard_label_weight=weight,
        on_training=on_training,
        on_new=new[0] if new else None,
        new_images=new[1] if new else "",
        last_fall=training.last_fall if training else None,
        plateaued=training.plateaued if training else False,
        wrong=wrong,
        prompted=_prompted(run, student),
        has_test=yardstick.is_accuracy,
        undecided=_undecided(run, student),
        seeds=tuple(sorted(reached.by_seed)) if reached else (0,),
        weak_classes=tuple(class_name(run, label) for label in follows.worst(NUM_CLASSES) if follows.shares[label] < 1)
        if follows
        else (),
    )


def _setting(settings: dict[str, Any], stage: str, name: str, defaults: Config) -> Any:
    default = getattr(getattr(defaults, stage), name)
    return (settings.get(stage) or {}).get(name, default)


def _wrong(run: RunResults, student: str) -> tuple[tuple[str, float, float], ...]:
    yardstick = yardstick_of(run.results)
    if not yardstick.is_accuracy:
        return ()
    reached = {
        where: (yardstick.of(run.results, student, where), yardstick.of(run.results, "teacher", where))
        for where in yardstick.places
    }
    return tuple(
        (where, 1 - ours.mean, 1 - theirs.mean) for where, (ours, theirs) in reached.items() if ours and theirs
    )


def _prompted(run: RunResults, student: str) -> float | None:
    """Of the student's own images where the judge's stage asked, else of the held-out ones of their kind."""
    asked = score(run.results, student, "images", "teacher_agreement")
    if asked is None:
        held_out = [found for domain in yardstick_of(run.results).domains
                    if (found := score(run.results, "teacher", domain, "prompted"))]  # fmt: skip
        asked = held_out[-1 if METHODS[student].diversified else 0] if held_out else None
    return asked.mean if asked else None


def _undecided(run: RunResults, student: str) -> tuple[tuple[str, Margin], ...]:
    _, rival = subject(run.results)
    if not rival:
        return ()
    above, places = margins(run, student, rival), yardstick_of(run.results).places
    return tuple((where, above[where]) for where in places if where in above and above[where].may_be_chance)
