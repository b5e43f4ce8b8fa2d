"""Two methods, of one run or of two: who is compared, whether they can be, and the outcome in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prismkd.errors import UserError
from prismkd.records.directory import HELD_OUT, dataset_folder, read_json, recorded_config
from prismkd.records.results import EVALUATION, Hits, RunResults, load_run
from prismkd.records.scores import NOT_SHIFTED
from prismkd.records.shapes import ShownEvaluation
from prismkd.records.verdict import DomainComparison, compare_hits

PREFERRED = ("prism", "plain")  # what two runs are compared by where no method is named


@dataclass(frozen=True)
class Contender:
    """The students of a method of a run, one per seed."""

    run: Path
    method: str
    name: str


@dataclass(frozen=True)
class Comparison:
    """B against A on every domain, over the seeds that both have.

    Attributes:
        a: the baseline.
        b: the contender; differences are b minus a.
        seeds: that both have.
        domains: a comparison on each.
        shifted: on the mean of the shifted domains, where there are several.
    """

    a: Contender
    b: Contender
    seeds: tuple[int, ...]
    domains: list[DomainComparison]
    shifted: DomainComparison | None = None

    @property
    def rows(self) -> list[DomainComparison]:
        """All that was compared."""
        return self.domains + ([self.shifted] if self.shifted else [])

    @property
    def measure(self) -> str:
        """What was compared: top1, or without test images the agreement with the teacher."""
        return "agreement" if any(row.domain in HELD_OUT.values() for row in self.domains) else "top1"

    def sentence(self) -> str:
        """The outcome in one sentence."""
        verb = "is better than" if self.measure == "top1" else "agrees with the teacher more often than"
        statements = [_statement(self.a.name, self.b.name, verb, row) for row in self.rows if row.significant]
        level = [row.domain for row in self.rows if not row.significant]
        if level:
            statements.append(f"no significant difference on {listed(level)}")
        text = "; ".join(statements) + "."
        return text[0].upper() + text[1:] if text.startswith("no ") else text

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "a": {"run": str(self.a.run), "method": self.a.method, "name": self.a.name},
            "b": {"run": str(self.b.run), "method": self.b.method, "name": self.b.name},
            "seeds": list(self.seeds),
            "measure": self.measure,
            "domains": [_row_to_dict(row) for row in self.domains],
            "shifted": _row_to_dict(self.shifted) if self.shifted else None,
            "sentence": self.sentence(),
        }


def compare(runs: Sequence[Path], methods: Sequence[str] = ()) -> Comparison:
    """Compare two methods of a run, or a method of each of two runs, on the same test images.

    The top-1 hits are paired by test image and seed; ``records.verdict`` says what counts as a difference. Without test
    images it is the hits on held-out synthetic ones, where a hit is to say what the teacher says.

    Args:
        runs: one or two run directories, evaluated, finished or not.
        methods: two of a single run; for two runs none (the same of both), one for both, or one for each.

    Raises:
        UserError: no such runs or methods, not evaluated yet, no common seeds, or other test images.
    """
    a, b = _contenders(runs, methods)
    seeds = tuple(seed for seed in recorded_config(a.run).seeds if seed in recorded_config(b.run).seeds)
    if not seeds:
        raise UserError(f"expected a seed that {a.run} and {b.run} share, got none; run one of them with another seed")
    results = [load_run(contender.run, finished=False) for contender in (a, b)]
    hits = [_hits(run, contender.method, seeds) for run, contender in zip(results, (a, b), strict=True)]
    check_comparable([
        Basis(run.folder, run.classes, _known_images(of_seed))
        for run, by_seed in zip(results, hits, strict=True) for of_seed in by_seed.values()
    ])  # fmt: skip
    verdicts = compare_hits(*hits)
    untested = sorted(hits[0][seeds[0]].keys() - verdicts.domains.keys())
    if untested:
        raise UserError(
            f"expected at least 2 test images, and their fingerprint, of each domain in {a.run} and {b.run}, got none "
            f"of {', '.join(untested)}; evaluate both on more"
        )
    has_mean = len(verdicts.domains.keys() - set(NOT_SHIFTED)) > 1
    return Comparison(a, b, seeds, list(verdicts.domains.values()), verdicts.shifted if has_mean else None)


# --- who is compared ---------------------------------------------------------------------------------------------


def _contenders(runs: Sequence[Path], methods: Sequence[str]) -> tuple[Contender, Contender]:
    if len(runs) == 1:
        if len(methods) != 2 or methods[0] == methods[1]:
            known = recorded_config(runs[0]).methods
            got = f"the methods {' '.join(methods)}" if methods else "no methods"
            pair = f"add `--methods {known[0]} {known[-1]}` (it has {', '.join(known)}), or " if len(known) > 1 else ""
            raise UserError(
                f"expected two runs, or two methods of {runs[0]}, got one run and {got}; {pair}name a second run"
            )
        chosen = list(methods)
    elif len(runs) == 2 and len(methods) <= 2:
        chosen = [methods[0], methods[-1]] if methods else [_common_method(runs)] * 2
    else:
        got = f"{len(runs) or 'no'} run{'s' * (len(runs) != 1)} and {len(methods) or 'no'} methods"
        raise UserError(
            f"expected one or two runs and at most two methods, got {got}; name the folders, as in "
            "`prismkd compare runs/a runs/b`"
        )
    for run, method in zip((runs[0], runs[-1]), chosen, strict=True):
        methods_of_run = recorded_config(run).methods
        if method not in methods_of_run:
            raise UserError(f"expected a method of {run}, got {method!r}; it has {', '.join(methods_of_run)}")
    names = _names(runs, chosen)
    return Contender(runs[0], chosen[0], names[0]), Contender(runs[-1], chosen[1], names[1])


def _common_method(runs: Sequence[Path]) -> str:
    """The method that two runs are compared by where none is named."""
    first, second = (recorded_config(run).methods for run in runs)
    common = [method for method in first if method in second]
    preferred = [method for method in PREFERRED if method in common]
    if not preferred and len(common) != 1:
        named = ", ".join(common) or "none"
        raise UserError(f"expected --methods, as {runs[0]} and {runs[1]} share {named}; name one, or one of each")
    return (preferred or common)[0]


def _names(runs: Sequence[Path], methods: Sequence[str]) -> tuple[str, str]:
    """How the two are called: by what tells them apart."""
    if len(runs) == 1:
        return methods[0], methods[1]
    short = [Path(run).resolve().name for run in runs]
    one, other = short if short[0] != short[1] else map(str, runs)
    if methods[0] == methods[1]:
        return one, other
    return f"{methods[0]} of {one}", f"{methods[1]} of {other}"


def _hits(results: RunResults, method: str, seeds: Sequence[int]) -> Hits:
    """Those of the seeds, each of which must have some."""
    hits = results.hits(method)
    for seed in seeds:
        if not hits.get(seed):
            path = dataset_folder(results.folder, seed, method) / EVALUATION
            read_json(path, ShownEvaluation)  # says so where it is missing
            evaluation = recorded_config(results.folder).evaluation
            if not (evaluation.source or evaluation.num_held_out):
                raise UserError(
                    f"expected a run with test images or held-out synthetic ones, got {results.folder} with neither; "
                    "start one with evaluation.source or evaluation.num_held_out"
                )
            raise UserError(
                f"expected each test image's hit in {path}, got none, as of an older version; delete the file and run "
                f"`prismkd evaluate --out {results.folder}` again"
            )
    return {seed: hits[seed] for seed in seeds}


# --- whether they can be compared --------------------------------------------------------------------------------


@dataclass(frozen=True)
class KnownImages:
    """The test images of a domain, as far as they are known: their number and fingerprint."""

    num_images: int | None
    fingerprint: str | None

    def differs_from(self, other: KnownImages) -> bool:
        """In what is known of both."""
        pairs = ((self.num_images, other.num_images), (self.fingerprint, other.fingerprint))
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


@dataclass(frozen=True)
class Basis:
    """What a run's figures rest on: its classes, and the test images of each domain."""

    run: Path
    classes: Sequence[str]
    domains: dict[str, KnownImages]


def basis_of(run: RunResults) -> Basis:
    """What all of a run's figures rest on: numbers from the table of results, fingerprints from the students'."""
    counts = run.num_test_images()
    of_students = [hits for method in run.folders for hits in run.hits(method).values()]
    fingerprints = {domain: hit.images for hits in of_students for domain, hit in hits.items()}
    return Basis(run.folder, run.classes, {
        domain: KnownImages(counts.get(domain), fingerprints.get(domain)) for domain in counts | fingerprints
    })  # fmt: skip


def check_comparable(bases: Sequence[Basis]) -> None:
    """Refuse to hold figures against each other that rest on other classes or test images.

    Raises:
        UserError: one does; it names the runs and the domains.
    """
    first = bases[0]
    for other in bases[1:]:
        if other.classes != first.classes:
            raise UserError(
                f"expected runs of the same classes, got {len(first.classes)} in {first.run} and others, "
                f"{len(other.classes)}, in {other.run}; make a page for each, or choose runs of one class list"
            )
        # The same number of images is not enough: the same test set in another order pairs strangers
        differing = _differing(first.domains, other.domains)
        if differing:
            raise UserError(
                f"expected runs with the same test images, got others of {', '.join(differing)} in {first.run} "
                f"and {other.run}; evaluate both on the same evaluation.source, or make a page for each"
            )


def _known_images(hits: dict[str, Any]) -> dict[str, KnownImages]:
    return {domain: KnownImages(len(row.hits), row.images) for domain, row in hits.items()}


def _differing(one: dict[str, KnownImages], other: dict[str, KnownImages]) -> list[str]:
    """Domains that only one of them has, or that have other images."""
    return [
        domain
        for domain in sorted(one.keys() | other.keys())
        if domain not in one or domain not in other or one[domain].differs_from(other[domain])
    ]


# --- the outcome in words ----------------------------------------------------------------------------------------


def _statement(a: str, b: str, verb: str, row: DomainComparison) -> str:
    better, worse, sign = (b, a, 1) if row.difference > 0 else (a, b, -1)
    low, high = sorted(100 * sign * bound for bound in row.interval)
    return (
        f"{better} {verb} {worse} on {row.domain} by {100 * abs(row.difference):.1f} points "
        f"(95 % interval {low:.1f} to {high:.1f}, {p_text(row.p_holm)})"
    )


def _row_to_dict(row: DomainComparison) -> dict[str, Any]:
    return {**vars(row), "significant": row.significant}


def p_text(p: float) -> str:
    """``p = .012``, or ``p < .001``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
