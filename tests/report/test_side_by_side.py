"""Several runs on one page: only those that can be compared, each under its own name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from prismkd.cli import main
from prismkd.config import Config
from prismkd.errors import UserError
from prismkd.metrics.hits import pack_hits
from prismkd.records.comparison import compare
from prismkd.report import write_comparison
from tests.report.made import Page, make_run, write_json


def change(run: Path, name: str, **values: object) -> None:
    write_json(run / name, json.loads((run / name).read_text()) | values)


def set_hits(run: Path, hits: list[int]) -> None:
    """Which test images the run's students get right, on every domain."""
    for path in run.glob("seed-*/*/evaluation.json"):
        document = json.loads(path.read_text())
        for domain in document["domains"].values():
            domain |= {"n": len(hits), "hits": pack_hits(np.array(hits))}
        write_json(path, document)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that differ in one setting; the second one's students are better by a point."""
    one, two = make_run(tmp_path / "weak"), make_run(tmp_path / "strong")
    change(two, "run.json", config={"guidance": {"strength": 0.3}}, command="prismkd run --out strong")
    results = json.loads((two / "metrics.json").read_text())["results"]
    change(two, "metrics.json", results=[r | {"value": r["value"] + 0.01 * (r["metric"] == "top1")} for r in results])
    set_hits(one, [0] * 8)
    set_hits(two, [1] * 8)
    return one, two


def test_the_runs_stand_side_by_side_under_their_names(runs: tuple[Path, Path], tmp_path: Path) -> None:
    text = Page(write_comparison(runs, tmp_path / "both.html")).text
    assert "strong (B) reaches the most on the original domain (74.4%, 1.0 points ahead) and on shifted domains" in text
    assert "PRISM, A" in text and "PRISM, B" in text and "A, weak" in text and "B, strong" in text
    assert "guidance.strength 0.15 0.3" in text  # the only setting that differs
    assert "prismkd run --out strong" in text
    assert "One seed in A, B: a point or two may be chance." in text


def test_no_winner_is_crowned_whom_compare_calls_no_different(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """The means differ by a point; image by image it could be chance."""
    set_hits(runs[0], [1, 1, 1, 0, 0, 0, 0, 0])
    set_hits(runs[1], [0, 1, 1, 1, 1, 0, 0, 0])
    for run in runs:  # as far as `compare` reads it
        classes = [{"name": name} for name in json.loads((run / "metrics.json").read_text())["classes"]]
        change(run, "run.json", classes=classes, config={**asdict(Config()), "methods": ["prism"], "seeds": [0]})
    assert not any(row.significant for row in compare(runs).rows)
    text = Page(write_comparison(runs, tmp_path / "both.html")).text
    level = "o significant difference {} between strong (B, {}%) and weak (A, {}%)"
    assert "N" + level.format("on the original domain", 74.4, 73.4) in text
    assert "n" + level.format("on shifted domains", 49.4, 48.4) in text
    assert "reaches the most" not in text and "ahead" not in text


def test_a_lead_that_cannot_be_tested_says_so(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for path in runs[0].glob("seed-0/*/evaluation.json"):
        write_json(path, {"results": []})  # as of a version that kept no hits
    text = Page(write_comparison(runs, tmp_path / "both.html")).text
    assert (
        "strong (B) has the higher mean on the original domain (74.4%, 1.0 points ahead, not tested for chance)" in text
    )
    assert "reaches the most" not in text


def test_a_leader_of_three_must_be_better_than_both(runs: tuple[Path, Path], tmp_path: Path) -> None:
    third = make_run(tmp_path / "third")
    set_hits(third, [1] * 7 + [0])
    text = Page(write_comparison([*runs, third], tmp_path / "all.html")).text
    assert "No significant difference on the original domain between strong (B, 74.4%) and third (C, 73.4%)" in text


def test_only_settings_that_differ_are_listed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    both = {"strength": 0.15, "every": 1}
    change(runs[0], "run.json", config={"guidance": both})
    change(runs[1], "run.json", config={"guidance": both | {"strength": 0.3}})
    text = Page(write_comparison(runs, tmp_path / "both.html")).text
    assert "guidance.strength" in text and "guidance.every" not in text


def test_the_best_of_all_runs_is_marked_and_references_never_are(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for path in runs[1].glob("seed-*/plain/evaluation.json"):  # of all students PRISM's in B alone are right
        document = json.loads(path.read_text())
        of_weak = json.loads((runs[0] / path.relative_to(runs[1])).read_text())
        write_json(path, document | {"domains": of_weak["domains"]})
    source = write_comparison(runs, tmp_path / "both.html").read_text()
    accuracy = source.split("<caption>Top-1 accuracy of every run")[1].split("</table>")[0]
    marked = [line for line in accuracy.split("<tr")[2:] if "<strong>" in line]
    assert len(marked) == 1 and "PRISM, B" in marked[0]


def test_stages_that_one_run_lacks_stand_in_the_order_of_work(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for run, stages in zip(runs, (["distill", "synthesize"], ["contents"]), strict=True):
        change(run, "metrics.json", timings=[{"stage": stage, "method": "", "seconds": 1} for stage in stages])
    text = Page(write_comparison(runs, tmp_path / "both.html")).text.split("Wall-clock time")[1]
    assert text.index("Contents") < text.index("Synthesize") < text.index("Distill")


def test_runs_of_other_classes_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    change(runs[1], "metrics.json", classes=["bell", "bolt", "mouse"])
    with pytest.raises(UserError, match=r"expected runs of the same classes, got .*; make a page for each"):
        write_comparison(runs, tmp_path / "both.html")
    assert not (tmp_path / "both.html").exists()


def test_runs_on_other_test_images_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for path in runs[1].glob("seed-0/*/evaluation.json"):
        document = json.loads(path.read_text())
        document["domains"]["pixel"]["images"] = "others"
        write_json(path, document)
    with pytest.raises(UserError, match="expected runs with the same test images, got others of pixel in"):
        write_comparison(runs, tmp_path / "both.html")


def test_another_number_of_test_images_is_enough_to_refuse(runs: tuple[Path, Path], tmp_path: Path) -> None:
    results = json.loads((runs[1] / "metrics.json").read_text())["results"]
    change(runs[1], "metrics.json", results=[r | {"n": 400 if r["domain"] == "outline" else r["n"]} for r in results])
    with pytest.raises(UserError, match="got others of outline in"):
        write_comparison(runs, tmp_path / "both.html")


def test_image_metrics_of_another_judge_stand_apart(runs: tuple[Path, Path], tmp_path: Path) -> None:
    change(runs[1], "run.json", config={"evaluation": {"judge": "another"}})
    text = Page(write_comparison(runs, tmp_path / "both.html")).text
    assert "cannot be held against each other" in text and "Precision against recall" not in text
    assert "measured without any student: A, weak." in text and "measured without any student: B, strong." in text


def test_runs_of_one_folder_name_go_by_their_paths(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name / "run") for name in ("x", "y")]
    text = Page(write_comparison(folders, tmp_path / "both.html")).text
    assert f"A, {folders[0]}" in text and f"B, {folders[1]}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "expected the folder of a finished run, got none"),
        (["{0}", "{1}"], "expected a run, or several and --dest FILE"),
        (["{0}", "{0}", "--dest", "{2}/page.html"], "expected 2 to 8 runs, each once"),
        (["{0}", "--dest", "{2}/page.html"], "expected 2 to 8 runs, each once"),
        (["{0}", "{1}", "--dest", "{2}"], "expected a file in a folder that exists for --dest"),
        (["{0}", "{1}", "--dest", "{2}/none/page.html"], "expected a file in a folder that exists for --dest"),
        (["{0}", "{1}", "--dest", "{2}/thesis.tex"], "expected a new file for --dest"),
        (["{0}", "{1}", "--dest", "{2}/nowhere.html"], "expected a new file for --dest"),
        (["{0}", "{1}", "--dest", "{2}/page.html", "--guidance.strength", "1"], "expected a run, or several"),
    ],
)
def test_bad_input_is_one_line(
    runs: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "nowhere.html").symlink_to(tmp_path / "deleted.html")
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *(argument.format(*runs, tmp_path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_command_writes_one_page_or_the_other(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(runs[0])]) == 0 and (runs[0] / "report.html").is_file()
    assert main(["report", "--dest", str(tmp_path / "both.html"), *map(str, runs)]) == 0
    assert (tmp_path / "both.html").is_file() and not (runs[1] / "report.html").exists()
    assert capsys.readouterr().out.count("report: ") == 2
