"""A run without test images: what its page says is agreement, that it is no accuracy, and nothing that isn't there."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from prismkd.cli import main
from prismkd.config import Config
from prismkd.errors import UserError
from prismkd.metrics.hits import pack_hits
from prismkd.records.comparison import compare
from prismkd.records.results import load_run
from prismkd.report import write_comparison, write_report
from prismkd.report.findings import shortfalls
from prismkd.report.tables import accuracy_table, class_table
from tests.report.made import CLASSES, HELD_OUT, Page, make_run, row, without_test_images, write_json

PLAIN_NAMES = ("bell", "bolt", "mouse")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return without_test_images(make_run(tmp_path / "run", classes=PLAIN_NAMES))


def set_hits(run: Path, method: str, right: int, **details: object) -> None:
    path = run / "seed-0" / method / "evaluation.json"
    hits = np.array([1] * right + [0] * (24 - right))
    found = {"n": 24, "hits": pack_hits(hits), "images": "one", **details}
    write_json(path, json.loads(path.read_text()) | {"domains": dict.fromkeys(HELD_OUT, found)})


def test_the_headline_is_agreement_and_says_what_it_is_not(run: Path) -> None:
    text = Page(write_report(run)).text
    assert (
        "The PRISM student says what its teacher says on 83.4% of held-out plain images and 73.4% of held-out diverse "
        "images."
    ) in text
    assert "No test images were given: this is agreement with the teacher on synthetic images" in text
    assert "not accuracy" in text
    assert "The teacher sees the prompted class in 95.0%" in text and "80.4 to 86.4" in text


@pytest.mark.parametrize("judge", [False, True])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_nothing_that_was_not_measured_is_spoken_of(tmp_path: Path, judge: bool, seeds: tuple[int, ...]) -> None:
    page = Page(write_report(without_test_images(make_run(tmp_path, seeds=seeds, classes=PLAIN_NAMES), judge=judge)))
    words = page.text.lower()
    for absent in ("top-1", "accuracy of", "original domain", "shifted", "precision", "recall", "real-vs-real"):
        assert absent not in words, absent
    assert not re.search(r"\b(nan|NaN|None)\b", page.text)
    assert ("vendi" in words) == judge
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert {"accuracy", "training", "energy", "senses", "prompts", "images", "classes", "timings", "next"} <= set(ids)
    assert ("image-metrics" in ids) == judge
    for body in re.findall(r"<tbody>(.*?)</tbody>", page.source, flags=re.DOTALL):
        assert "<tr" in body


def test_no_table_has_a_column_of_dashes(run: Path) -> None:
    for table in re.findall(r"<table.*?</table>", write_report(run).read_text(), flags=re.DOTALL):
        rows = [re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL) for line in table.split("<tr")[2:]]
        for column in zip(*rows, strict=False):
            assert set(map(str.strip, column)) != {"\u2013"} or "Images per second" in table, table[:200]


def test_the_teacher_s_share_stands_beside_the_students(run: Path) -> None:
    table = accuracy_table(load_run(run))
    assert table is not None
    shown = {line.label: [cell.text for cell in line.cells] for line in table.rows}
    assert shown["PRISM"] == ["83.4", "73.4"] and shown["Teacher: prompted class"] == ["95.0", "85.0"]
    assert [column.label for column in table.columns[1:]] == ["Held-out plain images", "Held-out diverse images"]


def test_classes_are_the_teacher_s(run: Path) -> None:
    found, table = shortfalls(load_run(run)), class_table(load_run(run))
    assert found is not None and found.classes is not None and table is not None
    assert found.classes.columns[0].label == "Teacher says" and "held-out" in found.vanished
    assert "follow their teacher" in table.caption


def test_the_badge_follows_the_interval_there_too(run: Path) -> None:
    set_hits(run, "plain", 10)
    set_hits(run, "prism", 12)
    source = write_report(run).read_text()
    assert 'class="change ahead"' not in source and "No significant difference from plain prompts" in source
    set_hits(run, "prism", 24)
    assert 'class="change ahead"' in write_report(run).read_text()


def as_command_would(run: Path) -> Path:
    """With a record that `compare` can read."""
    record = json.loads((run / "run.json").read_text())
    classes = [{"name": name} for name in PLAIN_NAMES]
    config = {**asdict(Config()), "methods": ["plain", "prism"], "seeds": [0]}
    write_json(run / "run.json", record | {"config": config, "classes": classes})
    return run


def test_compare_pairs_held_out_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_hits(as_command_would(run), "plain", 4)
    set_hits(run, "prism", 20)
    found = compare([run], ["plain", "prism"])
    assert {r.domain for r in found.rows} == HELD_OUT.keys() and all(r.significant for r in found.rows)
    assert found.shifted is None  # no mean over two kinds of images
    assert "prism agrees with the teacher more often than plain on synthetic plain by 66.7 points" in found.sentence()
    assert main(["compare", str(run), "--methods", "plain", "prism"]) == 0
    assert "Agreement with the teacher on the same images" in capsys.readouterr().out


def test_two_runs_stand_on_one_page(run: Path, tmp_path: Path) -> None:
    other = without_test_images(make_run(tmp_path / "other", classes=PLAIN_NAMES))
    set_hits(run, "prism", 4)
    set_hits(other, "prism", 20)
    metrics = json.loads((other / "metrics.json").read_text())
    for result in metrics["results"]:
        result["value"] += 0.01 * (result["metric"] == "agreement")
    write_json(other / "metrics.json", metrics)
    page = Page(write_comparison([run, other], tmp_path / "both.html"))
    assert "other (B) agrees with its teacher most on held-out plain images (84.4%, 1.0 points ahead)" in page.text
    assert "These runs had no test images: this is agreement with the teacher, not accuracy." in page.text
    assert "op-1" not in page.text and "Teacher: prompted class, A" in page.text


def test_runs_with_and_without_test_images_are_refused(run: Path, tmp_path: Path) -> None:
    tested = make_run(tmp_path / "tested", classes=PLAIN_NAMES)
    with pytest.raises(UserError, match=r"same test images, got others of id, outline"):
        write_comparison([run, tested], tmp_path / "both.html")


def test_a_thousand_classes_stay_small(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(1000)]
    results = [row("prism", 0, domain, "agreement", 0.5) for domain in HELD_OUT]
    write_json(tmp_path / "metrics.json", {"schema": 1, "results": results, "classes": classes})
    follows = [[0] * 1000 for _ in classes]
    for label in range(0, 1000, 2):
        follows[label][label if label % 4 else 1] = 1
    write_json(tmp_path / "seed-0" / "prism" / "evaluation.json", {"confusion_teacher": follows})
    page = write_report(tmp_path)
    assert page.stat().st_size < 1e6 and "the 200 of 1,000 classes that PRISM does worst on" in Page(page).text


def test_hostile_class_names_are_text_here_too(tmp_path: Path) -> None:
    page = Page(write_report(without_test_images(make_run(tmp_path))))
    assert CLASSES[1] in page.text and len(page.all("script")) == 1


def test_students_of_which_nothing_was_measured_are_said_to_be_ready(tmp_path: Path) -> None:
    run = make_run(tmp_path, classes=PLAIN_NAMES)
    metrics = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", metrics | {"results": []})
    for path in run.glob("seed-*/*/evaluation.json"):
        write_json(path, {"results": [], "domains": {}})
    page = Page(write_report(run))
    assert "Students are ready; nothing was measured of them." in page.text and "Loss" in page.text
