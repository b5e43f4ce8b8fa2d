"""A knob's published value follows from the rule, and an error is what neither values nor seeds explain."""

import random
from statistics import mean, stdev
from typing import Any

import pytest

from benchmarks.tables import chosen_value, guidance_knobs_table, standard_error, student_knobs_table


def rows_of(knob: str, fidelities: dict[float, list[float]]) -> list[dict[str, Any]]:
    """A row for each value and seed."""
    return [{"knob": knob, "value": value, "seed": seed, "fidelity": fidelity}
            for value, of_seeds in fidelities.items() for seed, fidelity in enumerate(of_seeds)]  # fmt: skip


@pytest.mark.parametrize(("error", "chosen"), [(0.0, 1600), (0.009, 1600), (0.011, 800), (0.1, 400)])
def test_of_values_within_one_standard_error_of_the_best_the_cheapest_is_taken(error: float, chosen: float) -> None:
    rows = rows_of("num_steps", {400: [0.90, 0.90], 800: [0.94, 0.96], 1600: [0.95, 0.97]})
    assert chosen_value(rows, error) == chosen


def test_a_value_beyond_the_best_is_never_a_tie() -> None:
    rows = rows_of("strength", {0.4: [0.90], 0.8: [0.95], 1.6: [0.93]})
    assert chosen_value(rows, 0.01) == 0.8


def test_what_values_and_seeds_add_is_no_error() -> None:
    additive = {value: [0.9 + 0.01 * value + 0.02 * seed for seed in range(3)] for value in (1.0, 2.0, 4.0)}
    assert standard_error(rows_of("a", additive)) == pytest.approx(0, abs=1e-12)


def test_the_error_is_that_of_a_mean_over_seeds() -> None:
    """Of many knobs with independent errors of one size: their deviation over the root of the number of seeds."""
    rng = random.Random(0)
    noise = [{float(value): [rng.gauss(0, 0.01) for _ in range(2)] for value in range(3)} for _ in range(2000)]
    rows = [row for knob, fidelities in enumerate(noise) for row in rows_of(str(knob), fidelities)]
    assert standard_error(rows) == pytest.approx(0.01 / 2**0.5, rel=0.05)
    means = [mean(of_seeds) for fidelities in noise for of_seeds in fidelities.values()]
    assert standard_error(rows) == pytest.approx(stdev(means), rel=0.05)


def test_the_tables_have_the_chosen_values_in_bold() -> None:
    rows = rows_of("num_steps", {400: [0.90, 0.91], 800: [0.95, 0.96]})
    assert "| num steps | **800** | 0.955 ± 0.007 |" in student_knobs_table({"rows": rows})
    beside = {"agreement": 0.9, "agreement_harsh": 0.8, "energy": -9.0, "vendi": 2.0}
    table = guidance_knobs_table({"rows": [{**row, **beside} for row in rows]})
    assert "| agreement | agreement on harsh views | energy | vendi |" in table.splitlines()[0]
    assert "| num steps | 400 | 0.905 ± 0.007 | 0.900 ± 0.000 |" in table
