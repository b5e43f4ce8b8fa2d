"""One seed and 81 test images: wherever a page speaks of two students, it follows their interval, as `compare` does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from prismkd.config import Config
from prismkd.metrics.hits import pack_hits
from prismkd.records.comparison import compare
from prismkd.records.results import load_run
from prismkd.report import write_comparison, write_report
from prismkd.report.advice import advice
from prismkd.report.findings import shortfalls
from prismkd.report.headline import headline
from prismkd.report.margins import margins
from prismkd.report.table import Table
from prismkd.report.tables import accuracy_table
from tests.report.made import Page, make_run, write_json

NUM_IMAGES = 81
CLASSES = ("bell", "bolt", "mouse")


class Pair(NamedTuple):
    """A run with both methods, and a run for each: students of 81 images, of which so many differ."""

    both: Path
    weak: Path
    strong: Path
    sure: bool


def set_outcome(run: Path, method: str, hits: np.ndarray, on_pixel: np.ndarray) -> None:
    """On every domain, in the student's hits and in the table of results."""
    path = run / "seed-0" / method / "evaluation.json"
    document = json.loads(path.read_text())
    of_domain = {domain: on_pixel if domain == "pixel" else hits for domain in document["domains"]}
    details = {d: {"n": len(h), "hits": pack_hits(h), "images": "one"} for d, h in of_domain.items()}
    write_json(path, document | {"domains": details})
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"]:
        if (result["method"], result["metric"]) == (method, "top1"):
            result |= {"value": float(of_domain[result["domain"]].mean()), "n": NUM_IMAGES}
    write_json(run / "metrics.json", metrics)
    record = json.loads((run / "run.json").read_text())
    config = {**asdict(Config()), "methods": ["plain", "prism"], "seeds": [0]}
    write_json(run / "run.json", record | {"config": config, "classes": [{"name": name} for name in CLASSES]})


@pytest.fixture(params=[(12, 5), (12, 0)], ids=["chance", "sure"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """PRISM gets some images right that plain prompts get wrong, and others the other way round."""
    better, worse = request.param
    plain, prism = np.zeros((2, NUM_IMAGES), dtype=int)
    plain[better : better + worse] = prism[:better] = plain[40:70] = prism[40:70] = 1
    # Where it is chance, a shifted domain has it the other way round: two domains of it would be no chance any more
    pixel = (plain, prism) if worse == 0 else (prism, plain)
    methods = ("plain", "prism")
    runs = [make_run(tmp_path / name, methods, classes=CLASSES) for name in ("both", "weak", "strong")]
    for run, is_strong in zip(runs, (True, False, True), strict=True):
        set_outcome(run, "plain", plain, pixel[0])
        set_outcome(run, "prism", (plain, prism)[is_strong], pixel[is_strong])
    both, weak, strong = runs
    return Pair(both, weak, strong, sure=worse == 0)


def marked(table: Table | None, column: int = 0) -> list[str]:
    assert table is not None
    return [row.label for row in table.rows if row.cells[column].best]


def test_the_interval_of_the_made_run_is_the_one_that_is_meant(pair: Pair) -> None:
    row = compare([pair.both], ["plain", "prism"]).domains[0]
    low, high = (100 * bound for bound in row.interval)
    if pair.sure:
        assert row.significant and low > 0
    else:
        assert 100 * row.difference == pytest.approx(8.6, abs=0.05) and -2 < low < 0 and 18 < high < 19
        assert not row.significant


def test_a_margin_is_colored_only_where_it_is_sure(pair: Pair) -> None:
    tones = {margin.tone for margin in margins(load_run(pair.both), "prism", "plain").values()}
    assert tones == ({"ahead"} if pair.sure else {""})


def test_the_badges_of_the_key_figures_follow(pair: Pair) -> None:
    figures = headline(load_run(pair.both)).figures[:2]
    assert [figure.tone for figure in figures] == (["ahead"] * 2 if pair.sure else [""] * 2)
    assert all("vs plain" in figure.change for figure in figures)


def test_the_headline_follows(pair: Pair) -> None:
    said = " ".join(headline(load_run(pair.both)).details)
    assert ("points above plain prompts" in said) == pair.sure
    level = "No significant difference from plain prompts on the original domain and on shifted domains."
    assert (level in said) == (not pair.sure)


def test_a_leader_by_the_mean_alone_is_said_to_be_one(pair: Pair) -> None:
    """Plain prompts in front of PRISM, which the page is about."""
    metrics = json.loads((pair.both / "metrics.json").read_text())
    for result in metrics["results"]:
        result["method"] = {"plain": "prism", "prism": "plain"}.get(result["method"], result["method"])
    write_json(pair.both / "metrics.json", metrics)
    folder = pair.both / "seed-0"
    (folder / "plain").rename(folder / "other")
    (folder / "prism").rename(folder / "plain")
    (folder / "other").rename(folder / "prism")
    (said,) = (text for text in headline(load_run(pair.both)).details if text.startswith("The highest mean"))
    assert ("(no significant difference)" in said) == (not pair.sure)


def test_the_table_marks_whoever_can_not_be_told_from_the_best(pair: Pair) -> None:
    assert marked(accuracy_table(load_run(pair.both))) == (["PRISM"] if pair.sure else ["Plain", "PRISM"])


def test_the_table_of_shortfalls_follows(pair: Pair) -> None:
    found = shortfalls(load_run(pair.both))
    assert found is not None and found.domains is not None
    (column,) = (place for place, c in enumerate(found.domains.columns[1:]) if c.label == "vs plain")
    assert {row.cells[column].tone for row in found.domains.rows} == ({"ahead"} if pair.sure else {""})


def test_the_advice_says_that_it_is_open(pair: Pair) -> None:
    titles = [item.title for item in advice(load_run(pair.both))]
    assert ("Too little to tell it from plain prompts" in titles) == (not pair.sure)


def test_the_page_shows_no_green_badge_by_chance(pair: Pair) -> None:
    page = Page(write_report(pair.both))
    green = [a for tag, a in page.elements if "ahead" in a.get("class", "").split()]
    assert bool(green) == pair.sure


def test_the_page_of_two_runs_crowns_whom_compare_calls_better(pair: Pair, tmp_path: Path) -> None:
    assert all(row.significant == pair.sure for row in compare([pair.weak, pair.strong]).rows)
    page = Page(write_comparison([pair.weak, pair.strong], tmp_path / "both.html"))
    assert ("strong (B) reaches the most" in page.text) == pair.sure
    assert ("No significant difference on the original domain" in page.text) == (not pair.sure)
    table = page.source.split("<caption>Top-1 accuracy of every run")[1].split("</table>")[0]
    bold = {label for label in ("PRISM, A", "PRISM, B") if "<strong>" in table.split(label)[1].split("</td>")[0]}
    assert bold == ({"PRISM, B"} if pair.sure else {"PRISM, A", "PRISM, B"})
