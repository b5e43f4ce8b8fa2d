"""The precision-recall plane: the path that is drawn, and names that can be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prismkd.records.results import load_run
from prismkd.report.precision_recall import path, place_labels, plane_figure, points_of
from tests.report.made import make_run, row, write_json


@pytest.mark.parametrize(
    ("methods", "steps"),
    [
        ("plain eda dpe prism", {("plain", "eda"), ("plain", "dpe"), ("eda", "prism"), ("dpe", "prism")}),
        ("plain eda prism", {("plain", "eda"), ("eda", "prism")}),
        ("plain prism", {("plain", "prism")}),
        ("plain more real", set()),
    ],
)
def test_the_path_leads_over_the_parts_that_were_measured(methods: str, steps: set[tuple[str, str]]) -> None:
    assert set(path(set(methods.split()))) == steps
    assert set(path({f"A {method}" for method in methods.split()}, "A ")) == {(f"A {a}", f"A {b}") for a, b in steps}


def test_up_is_precise_and_right_is_recall(tmp_path: Path) -> None:
    points = {point.key: point for point in points_of(load_run(make_run(tmp_path)))}
    figure = str(plane_figure([points["plain"], points["prism"]], [("plain", "prism")]))
    (x1, y1), (x2, y2) = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', figure)]
    assert x2 > x1 and y2 < y1  # PRISM has more of both, and y grows downward
    assert "Arrows: Plain to PRISM" in figure and figure.count('class="arrow"') == 1


def test_the_ceiling_is_real_against_real_and_its_images_are_not_shown_twice(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert [point.key for point in points_of(load_run(run)) if point.ceiling] == ["real"]
    metrics = json.loads((run / "metrics.json").read_text())
    real = {r["metric"]: r["value"] for r in metrics["results"] if (r["method"], r["domain"]) == ("real", "images")}
    metrics["results"] += [row("real-vs-real", 0, "images", metric, value) for metric, value in real.items()]
    write_json(run / "metrics.json", metrics)
    points = points_of(load_run(run))
    assert [point.key for point in points if point.ceiling] == ["real-vs-real"]
    assert "real" not in {point.key for point in points}


def test_names_of_neighbors_do_not_cover_each_other() -> None:
    places = [(200.0, 200.0), (206.0, 203.0), (200.0, 212.0), (480.0, 200.0)]
    labels = place_labels(places, ["Plain", "Plain, more", "EDA only", "far right"], [])
    assert labels[3][2] != "start"  # it would run out of the figure
    lines = [(x - (6.4 * 11 if anchor == "end" else 0), y) for x, y, anchor in labels[:3]]
    assert all(abs(a[1] - b[1]) > 8 or abs(a[0] - b[0]) > 60 for i, a in enumerate(lines) for b in lines[:i])


def test_a_name_stays_clear_of_its_own_bars_and_of_the_edge_of_a_narrow_figure() -> None:
    bars = [((150.0, 200.0), (250.0, 200.0)), ((200.0, 180.0), (200.0, 220.0))]
    [(_, y, _)] = place_labels([(200.0, 200.0)], ["DPE only"], bars)
    assert y <= 197 or y >= 212  # wholly above or below the horizontal one
    [(_, _, anchor)] = place_labels([(425.0, 200.0)], ["DPE only"], [])
    assert anchor != "start"  # in a narrow window, letters are larger
