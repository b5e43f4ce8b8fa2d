"""The methods that a run sets side by side: what each turns on, and what the report calls it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way to come by the images that a student learns from.

    Attributes:
        name: in the settings, in folders and in ``metrics.json``.
        label, note: its name in the report, and what it is in a few words.
        guided: by the teacher's energy (EDA).
        diversified: whether its prompts are (DPE).
        draws_images: whether it synthesizes them; those that don't have seen real data, so they are never "best".
        adapted: whether the generator has an adapter that it learned from the teacher (``adaptation``).
        in_rounds: whether a student of the images so far takes part in drawing the next ones (``rounds``).
        budget_of: methods whose seconds decide how many images it gets, so they run first and can't be left out.
    """

    name: str
    label: str
    note: str
    guided: bool = False
    diversified: bool = False
    draws_images: bool = True
    adapted: bool = False
    in_rounds: bool = False
    budget_of: tuple[str, ...] = ()

    def guides_in_part(self, domains: str) -> bool:
        """Whether ``guidance.domains`` leaves some of its images unguided: plain prompts name no style."""
        return self.guided and self.diversified and domains == "own"


def _by_name(*methods: Method) -> dict[str, Method]:
    return {method.name: method for method in methods}


# In the order of the report's tables
METHODS = _by_name(
    Method("plain", "Plain", "one prompt per class, no guidance"),
    Method("more", "Plain, more", "plain prompts, more images", budget_of=("plain", "prism")),
    Method("eda", "EDA only", "plain prompts, energy guidance", guided=True),
    Method("dpe", "DPE only", "diverse prompts, no guidance", diversified=True),
    Method("prism", "PRISM", "diverse prompts and energy guidance", guided=True, diversified=True),
    Method("adapted", "Adapted", "diverse prompts, generator adapted to the teacher", diversified=True, adapted=True),
    Method("adapted-prism", "Adapted PRISM", "diverse prompts, adapted generator and energy guidance",
           guided=True, diversified=True, adapted=True),
    Method("prism-rounds", "PRISM in rounds", "PRISM, guided by a student of the images so far, too",
           guided=True, diversified=True, in_rounds=True),
    Method("adapted-prism-rounds", "Adapted PRISM in rounds",
           "adapted PRISM, guided by a student of the images so far, too",
           guided=True, diversified=True, adapted=True, in_rounds=True),
    Method("real", "Real images", "same student, real training images", draws_images=False),
)  # fmt: skip

# Rows of results beside the methods' own: there is nothing to run for them
ROWS = METHODS | _by_name(
    Method("teacher", "Teacher", "the network that is distilled", draws_images=False),
    Method("real-vs-real", "Real against real", "real images measured against other real images: the ceiling",
           draws_images=False),
)  # fmt: skip
REFERENCES = tuple(row.name for row in ROWS.values() if not row.draws_images)


def in_order_of_work(names: tuple[str, ...]) -> list[str]:
    """Methods whose number of images hangs on others' seconds come last."""
    return sorted(names, key=lambda name: name in METHODS and bool(METHODS[name].budget_of))
