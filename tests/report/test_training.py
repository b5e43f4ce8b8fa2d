"""Loss over steps, of several trainings in one figure, and what the trainings warned of."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest

from prismkd.records.results import load_run
from prismkd.report import write_report
from prismkd.report.curves import Curve, curve_figure, loss_ticks
from prismkd.report.training import training_figure, training_table
from tests.report.made import LOG, Page, make_run, write_json

NAMESPACE = "{http://www.w3.org/2000/svg}"


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def drawn(curves: list[Curve]) -> ElementTree.Element:
    return ElementTree.fromstring(curve_figure("Loss", curves))


def test_a_falling_loss_falls_and_twice_the_steps_are_twice_as_far() -> None:
    figure = drawn([Curve("Plain", 200, [8, 4, 2, 1]), Curve("PRISM", 400, [8, 4, 2, 1])])
    one, other = (places(path.attrib["d"]) for path in figure.iter("path"))
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(other))  # to the right, and down
    steps = [b[1] - a[1] for a, b in pairwise(other)]
    assert max(steps) - min(steps) < 0.3  # each half is one step of a logarithmic axis
    assert other[0][0] - 40 == pytest.approx(2 * (one[0][0] - 40), abs=0.2)
    assert "Plain from 8.00 to 1.00 in 200 steps" in figure.attrib["aria-label"]


@pytest.mark.parametrize("num_curves", [1, 2, 6])
def test_names_of_curves_that_end_together_lie_apart_and_inside(num_curves: int) -> None:
    figure = drawn([Curve(f"method {n}", 100, [2.0, 1.0 + 1e-3 * n]) for n in range(num_curves)])
    heights = sorted(float(t.attrib["y"]) for t in figure.iter("text") if (t.text or "").startswith("method"))
    assert len(heights) == num_curves and all(b - a >= 14.9 for a, b in pairwise(heights))
    assert heights[0] > 0 and heights[-1] <= 244


def test_a_loss_that_stays_or_reaches_zero_is_drawn() -> None:
    for losses in ([1.0, 1.0, 1.0], [1.0, 0.0], [0.0, 0.0]):
        figure = ElementTree.tostring(drawn([Curve("Plain", 10, losses)]), encoding="unicode")
        assert "nan" not in figure and "inf" not in figure


def test_an_axis_has_at_least_two_ticks() -> None:
    assert loss_ticks(0.9, 12) == [1, 2, 5, 10]
    assert len(loss_ticks(1.02, 1.9)) >= 2


def test_the_table_sets_own_images_beside_others(tmp_path: Path) -> None:
    table = training_table(load_run(make_run(tmp_path)))
    assert table is not None
    assert [column.label for column in table.columns] == [
        "Student from", "Steps", "Images", "Own images", "Test images", "Prompted class",
    ]  # fmt: skip
    cells = {line.label: [cell.text for cell in line.cells] for line in table.rows}
    assert cells["PRISM"] == ["400", "30", "97.0", "\u2013", "93.0"] and "Teacher" not in cells


def test_logs_of_an_older_version_leave_no_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for path in run.glob("seed-*/*/student/log.json"):
        write_json(path, {name: LOG[name] for name in ("seconds", "images", "log")})
    table = training_table(load_run(run))
    assert table is not None and [c.label for c in table.columns] == ["Student from", "Steps", "Images", "Test images"]
    assert training_figure(load_run(run)) is None
    page = Page(write_report(run))
    assert "Loss" not in page.text and "The mean loss" not in page.text


def test_what_a_training_warned_of_stands_on_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    warning = "early plateau: the mean loss went from 2 to 2"
    write_json(run / "seed-0" / "prism" / "student" / "log.json", LOG | {"warnings": [warning]})
    assert f"PRISM: {warning}" in Page(write_report(run)).text
