"""Two methods on the same test images, of one run or of two: which student is better, and could it be chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prismkd.config import Config
from prismkd.errors import UserError
from prismkd.metrics import holm, paired_interval, sign_test
from prismkd.metrics.hits import domain_order, unpack_hits
from prismkd.records.directory import job_folder, read_json, read_record, recorded_config

LEVEL = 0.05  # of significance, after the correction for several domains
PREFERRED = ("prism", "plain")  # what two runs are compared by where nothing is said


@dataclass(frozen=True)
class Student:
    """The students of a method of a run, one per seed."""

    run: Path
    method: str
    name: str


@dataclass(frozen=True)
class DomainComparison:
    """B against A on the images of a domain; accuracies and differences are fractions.

    Attributes:
        domain: its name.
        num_images: test images.
        top1_a: A's mean over images and seeds.
        top1_b: B's.
        difference: B's minus A's.
        interval: 95 %, over images and seeds.
        b_better: images that B gets right under more seeds than A.
        a_better: images that A does.
        p: of the exact sign test over images.
        p_holm: corrected for the number of domains.
    """

    domain: str
    num_images: int
    top1_a: float
    top1_b: float
    difference: float
    interval: tuple[float, float]
    b_better: int
    a_better: int
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Both the test over images and the interval over images and seeds exclude that there is no difference."""
        return self.p_holm < LEVEL and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Comparison:
    """B against A on every domain, over the seeds that both have."""

    a: Student
    b: Student
    seeds: tuple[int, ...]
    domains: list[DomainComparison]

    def sentence(self) -> str:
        """What is to be said, in one sentence."""
        sure = [_statement(self.a.name, self.b.name, row) for row in self.domains if row.significant]
        unsure = [row.domain for row in self.domains if not row.significant]
        if unsure:
            sure.append(f"no significant difference on {_listed(unsure)}")
        text = "; ".join(sure) + "."
        return text[0].upper() + text[1:] if text.startswith("no ") else text

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "a": {"run": str(self.a.run), "method": self.a.method, "name": self.a.name},
            "b": {"run": str(self.b.run), "method": self.b.method, "name": self.b.name},
            "seeds": list(self.seeds),
            "domains": [{**vars(row), "significant": row.significant} for row in self.domains],
            "sentence": self.sentence(),
        }


def compare(runs: Sequence[Path], methods: Sequence[str] = ()) -> Comparison:
    """Compare two methods of a run, or a method of each of two runs, on the same test images.

    The top-1 hits are paired by test image and seed. The interval is a bootstrap over images and seeds; the p-value is
    of an exact sign test over images (with one seed McNemar's), corrected over domains (Holm). A difference is called
    significant where both say so.

    Args:
        runs: one or two run directories.
        methods: two of a single run; for two runs none (the same of both), one for both, or one for each.

    Raises:
        UserError: no such runs or methods, not evaluated yet, no common seeds, or other test images.
    """
    a, b = _students(runs, methods)
    seeds = tuple(seed for seed in _config(a.run).seeds if seed in _config(b.run).seeds)
    if not seeds:
        raise UserError(f"expected a seed that {a.run} and {b.run} share, got none; run one of them with another seed")
    _check_classes(a.run, b.run)
    found_a, found_b = ([_domains(student, seed) for seed in seeds] for student in (a, b))
    rows = [_compare(domain, [found[domain] for found in found_a], [found[domain] for found in found_b])
            for domain in _same_domains(a, b, found_a + found_b)]  # fmt: skip
    corrected = holm([row.p for row in rows])
    rows = [DomainComparison(**{**vars(row), "p_holm": p}) for row, p in zip(rows, corrected, strict=True)]
    return Comparison(a, b, seeds, rows)


# --- who is compared ---------------------------------------------------------------------------------------------


def _students(runs: Sequence[Path], methods: Sequence[str]) -> tuple[Student, Student]:
    if len(runs) == 1:
        if len(methods) != 2 or methods[0] == methods[1]:
            known = ", ".join(_config(runs[0]).methods)
            raise UserError(f"expected two runs, or --methods A B for one, got one and {list(methods)}; it has {known}")
        chosen = list(methods)
    elif len(runs) == 2 and len(methods) <= 2:
        chosen = [methods[0], methods[-1]] if methods else [_common_method(runs)] * 2
    else:
        raise UserError(f"expected one or two runs and at most two methods, got {len(runs)} and {list(methods)}")
    for run, method in zip((runs[0], runs[-1]), chosen, strict=True):
        if method not in _config(run).methods:
            raise UserError(f"expected a method of {run}, got {method!r}; it has {', '.join(_config(run).methods)}")
    names = _names(runs, chosen)
    return Student(runs[0], chosen[0], names[0]), Student(runs[-1], chosen[1], names[1])


def _common_method(runs: Sequence[Path]) -> str:
    """The method that two runs are compared by where nothing is said."""
    common = [method for method in _config(runs[0]).methods if method in _config(runs[1]).methods]
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


def _config(run: Path) -> Config:
    return recorded_config(run)


def _check_classes(one: Path, other: Path) -> None:
    names = [[row["name"] for row in read_record(run)["classes"]] for run in (one, other)]
    if names[0] != names[1]:
        raise UserError(f"expected runs of the same classes, got {one} and {other}; compare runs of one class list")


# --- what is compared --------------------------------------------------------------------------------------------


def _domains(student: Student, seed: int) -> dict[str, dict[str, Any]]:
    path = job_folder(student.run, seed, student.method) / "evaluation.json"
    found = read_json(path).get("domains")
    if not found:
        raise UserError(
            f"expected each test image's hit in {path}, got none, as of an older version; delete the file and run "
            f"`prismkd evaluate --out {student.run}` again"
        )
    return found


def _same_domains(a: Student, b: Student, found: Sequence[dict[str, dict[str, Any]]]) -> list[str]:
    """The domains, if all results are of the same images."""
    images = [{name: row["images"] for name, row in domains.items()} for domains in found]
    if any(other != images[0] for other in images):
        differing = sorted({name for other in images for name in other.keys() | images[0].keys()
                            if other.get(name) != images[0].get(name)})  # fmt: skip
        raise UserError(
            f"expected the same test images in {a.run} and {b.run}, got others in {', '.join(differing)}; "
            "evaluate both on the same evaluation.source"
        )
    return domain_order(np.array(list(images[0])))


def _compare(domain: str, found_a: Sequence[dict[str, Any]], found_b: Sequence[dict[str, Any]]) -> DomainComparison:
    hits_a, hits_b = (np.stack([unpack_hits(row["hits"], row["n"]) for row in found]) for found in (found_a, found_b))
    differences = hits_b - hits_a
    sums = differences.sum(axis=0, dtype=np.int64)
    p = sign_test(differences)
    return DomainComparison(
        domain=domain,
        num_images=hits_a.shape[1],
        top1_a=float(hits_a.mean()),
        top1_b=float(hits_b.mean()),
        difference=float(differences.mean()),
        interval=paired_interval(differences, seed=0),
        b_better=int((sums > 0).sum()),
        a_better=int((sums < 0).sum()),
        p=p,
        p_holm=p,
    )


# --- what is said ------------------------------------------------------------------------------------------------


def _statement(a: str, b: str, row: DomainComparison) -> str:
    better, worse, sign = (b, a, 1) if row.difference > 0 else (a, b, -1)
    low, high = sorted(100 * sign * bound for bound in row.interval)
    return (
        f"{better} is better than {worse} on {row.domain} by {100 * abs(row.difference):.1f} points "
        f"(95 % interval {low:.1f} to {high:.1f}, {p_text(row.p_holm)})"
    )


def p_text(p: float) -> str:
    """``p = .012``, or ``p < .001``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
