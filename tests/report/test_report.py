"""The report says what the run measured, and no more."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prismkd.cli import main
from prismkd.errors import UserError
from prismkd.metrics.hits import pack_hits
from prismkd.records.results import load_run
from prismkd.records.scores import SHIFTED, Result, best, score, shifted_score
from prismkd.report import write_report
from prismkd.report.findings import reasons, shortfalls
from prismkd.report.margins import Margin, margins
from prismkd.report.tables import class_table, timing_table
from prismkd.report.thumbnails import picture_url
from tests.files.killing import small_files
from tests.report.made import CLASSES, HOSTILE, TOP1, Page, make_run, row, write_json


def test_the_numbers_of_the_run_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for method, right in (("plain", 0), ("prism", 12), ("real", 24)):
        set_hits(run, method, [1] * right + [0] * (24 - right))
    text = Page(write_report(run)).text
    assert (
        "The PRISM student reaches 73.4% on the original domain and 48.4% on shifted domains; "
        "its teacher reaches 86.9% and 61.9%."
    ) in text
    assert "12.2 and 12.2 points above plain prompts; 7.8 and 7.8 points below the same student of real images." in text
    assert "Closes 61% of the gap from plain to real images" in text  # (73.4 - 61.2) / (81.2 - 61.2)
    for shown in ("61.2", "73.4", "81.2", "86.9", "0.634", "4.0", "1 min 15 s", "2 CPU cores", '"strength": 0.15'):
        assert shown in text


def test_seeds_are_averaged_and_their_spread_shown(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path, seeds=(0, 1, 2))))
    assert "\u00b1 1.0" in page.text  # standard deviation of 0, 1 and 2 points
    assert "reaches 74.4% on the original domain" in page.text
    assert "3 of 3 seeds on the original domain and 3 of 3 seeds on shifted domains" in page.text


def test_a_worse_student_is_not_praised(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"]:
        if result["method"] == "prism" and result["domain"] != "id":
            result["value"] -= 0.2
    write_json(run / "metrics.json", metrics)
    for path in run.glob("seed-*/plain/evaluation.json"):
        write_json(path, json.loads(path.read_text()) | {"domains": {}})
    said = "The mean is 12.2 points above and 7.8 points below plain prompts, not tested for chance."
    assert said in Page(write_report(run)).text


@pytest.mark.parametrize("method", ["plain", "prism", "real", "teacher"])
def test_one_method_is_enough(tmp_path: Path, method: str) -> None:
    page = Page(write_report(make_run(tmp_path, methods=(method,))))
    assert f"{100 * TOP1[method]:.1f}% on the original domain" in page.text
    assert "plain prompts." not in page.text
    assert page.all("strong") == []  # there is nothing to be best of


def test_missing_parts_are_left_out(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"schema": 1, "results": [row("plain", 0, "id", "top1", 0.5)]})
    page = Page(write_report(tmp_path))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert ids == {"main", "shortfalls", "accuracy", "provenance", "said", "viewer", "viewer-text"}


def test_a_folder_without_a_run_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got .*, which has no run\.json; check the path"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected"),
        ('{"schema": 2}', "expected schema 1"),
        ('{"schema": 1, "results": [{"method": "plain"}]}', "expected"),
    ],
)
def test_damaged_metrics_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=rf"{message}.*metrics\.json.*; .*(delete|make) "):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "document", "found"),
    [
        ("senses.json", {"senses": [{"class_name": "bell", "wordings": []}]}, "length >= 1 at senses[0].wordings"),
        ("calibration.json", {"energies": ["much"]}, "got `str` at energies[0]"),
        ("contents.json", {"contents": [], "dropped": 3}, "got `int` at dropped"),
        ("seed-0/prism/evaluation.json", {"domains": ["id"]}, "got `array` at domains"),
        ("seed-0/prism/evaluation.json", {"confusion": [["many"]]}, "got `str` at confusion[0][0]"),
        ("seed-0/prism/evaluation.json", {"confusion": [[1, 2], [3]]}, "expected counts of 3 x 3 classes"),
    ],
)
def test_files_of_another_shape_are_one_line(
    tmp_path: Path, name: str, document: dict[str, object], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    write_json(run / name, document)
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert str(run / name).replace("seed-0", "seed-") in error.replace("seed-0", "seed-").replace("seed-*", "seed-")
    assert found in error and error.count("\n") == 1
    assert not (run / "report.html").exists()


def test_senses_of_an_older_version_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_json(run / "senses.json", {"senses": [{"class_name": "bell", "text": "bell", "scores": {"bell": -0.1}}]})
    assert 'id="senses"' not in write_report(run).read_text()


def test_a_difference_without_an_interval_is_not_colored(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for path in run.glob("seed-*/*/evaluation.json"):
        write_json(path, json.loads(path.read_text()) | {"domains": {}})
    found = shortfalls(load_run(run))
    assert found is not None and found.domains is not None and "95%" not in found.domains.caption
    assert {cell.tone for line in found.domains.rows for cell in line.cells} == {""}


def test_stages_stand_in_the_order_of_work(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    stages = ["distill", "later", "synthesize", "senses", "calibration"]
    metrics["timings"] = [{"stage": stage, "method": "", "seconds": 1} for stage in stages]
    write_json(run / "metrics.json", metrics)
    table = timing_table(load_run(run))
    assert table is not None
    assert [line.label for line in table.rows] == ["Senses", "Calibration", "Synthesize", "Distill", "Later"]


def test_images_of_one_column_share_their_index(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    images = page.all("img")[: 2 * 8 * len(CLASSES)]  # the examples of prompts come later
    indices = {
        m: [re.findall(r"\d+", i["alt"].split("\u2014")[0])[-1] for i in images if i["alt"].startswith(m)]
        for m in ("plain", "prism")
    }
    assert len(indices["plain"]) == 8 * len(CLASSES) and indices["plain"] == indices["prism"]


def test_best_ignores_methods_that_saw_real_data() -> None:
    results = [
        Result(m, 0, "id", "top1", v) for m, v in (("plain", 0.5), ("prism", 0.6), ("real", 0.9), ("teacher", 1.0))
    ]
    assert best({m: score(results, m, "id") for m in ("plain", "prism", "real", "teacher")}) == {"prism"}


def test_the_mean_over_domains_needs_every_domain() -> None:
    results = [
        Result("plain", 0, "outline", "top1", 0.4),
        Result("plain", 0, "pixel", "top1", 0.2),
        Result("prism", 0, "outline", "top1", 0.9),
    ]
    plain = shifted_score(results, "plain")
    assert plain is not None and plain.mean == pytest.approx(0.3)
    assert shifted_score(results, "prism") is None


def test_a_rival_in_front_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["results"].append(row("more", 0, "id", "top1", 0.75))
    write_json(run / "metrics.json", metrics)
    said = "The highest mean without real data: Plain, more with 75.0% on the original domain (not tested for chance)."
    assert said in Page(write_report(run)).text


def test_methods_with_the_same_prompts_share_an_entry(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    assert "PRISM · Plain" in page.text
    assert len([a for a in page.all("details") if a.get("class") != "terms"]) == 2  # the other is the configuration


def test_senses_come_with_their_probes_and_those_to_look_at_first(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    cards = page.text.split("Classes to look at come first.")[1].split("Prompts")[0]
    assert cards.index(f"{CLASSES[-1]} a tie") < cards.index(CLASSES[0])
    assert f"{HOSTILE} 1 name \u22121.00" in cards
    groups = [a for _, a in page.elements if a.get("class", "").startswith("wording")]
    assert [a["class"] for a in groups[:2]] == ["wording", "wording chosen"]
    probes = [image["alt"].split(" \u2014")[0] for image in page.all("img") if image["alt"].startswith("probe")]
    assert probes == [f"probe {i}" for i in (*range(8, 12), *range(8))]


def test_prompts_stand_beside_their_images_and_dropped_contents_beside_the_reason(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    examples = page.source.split('<caption class="hidden">Example prompts of PRISM')[1].split("</table>")[0]
    assert examples.count("<img") == len(CLASSES) and 'alt="prism &#34;bell&#34; 0"' in examples
    assert f"a {HOSTILE} it loses the class" in page.text


def test_a_run_without_senses_has_no_such_section(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "senses.json").unlink()
    (run / "contents.json").unlink()
    assert 'id="senses"' not in write_report(run).read_text()


def set_hits(run: Path, method: str, hits: list[int], seed: int = 0, **details: object) -> None:
    """Another outcome on every domain."""
    path = run / f"seed-{seed}" / method / "evaluation.json"
    document = json.loads(path.read_text())
    for domain in document["domains"].values():
        domain |= {"n": len(hits), "hits": pack_hits(np.array(hits)), **details}
    write_json(path, document)


def of(margin: Margin) -> tuple[float, tuple[float, float] | None]:
    return margin.mean, margin.interval


def test_an_interval_rests_on_the_images_that_two_students_share(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert of(margins(load_run(run), "prism", "plain")["id"]) == (pytest.approx(0.122), (0.0, 0.0))  # the same hits
    set_hits(run, "plain", [0, 0, 0, 0, 1, 1, 1, 1])
    found = margins(load_run(run), "prism", "plain")["id"]
    assert found.interval is not None and not found.significant  # four better, four worse
    set_hits(run, "plain", [0, 0, 0, 0, 1, 1, 1, 1], images="others")
    assert of(margins(load_run(run), "prism", "plain")["id"]) == (pytest.approx(0.122), None)


def test_the_teacher_is_paired_with_the_students_of_every_seed(tmp_path: Path) -> None:
    run = make_run(tmp_path, seeds=(0, 1))
    assert of(margins(load_run(run), "prism", "teacher")["id"]) == (pytest.approx(-0.135), None)
    document = json.loads((run / "seed-0" / "prism" / "evaluation.json").read_text())
    write_json(run / "references.json", {"results": [], "domains": document["domains"]})
    assert of(margins(load_run(run), "prism", "teacher")["id"]) == (pytest.approx(-0.135), (0.0, 0.0))


def badges(page: Page) -> list[str]:
    return [attributes["class"] for attributes in page.all("p") if attributes.get("class", "").startswith("change")]


@pytest.mark.parametrize(
    ("plain", "prism", "badge", "said"),
    [
        (4, 5, "change", True),  # +8.3 points, of which the interval leaves nothing sure
        (2, 11, "change ahead", False),
        (11, 2, "change behind", False),
    ],
)
def test_the_badge_and_the_headline_follow_the_verdict(
    plain: int, prism: int, badge: str, said: bool, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    for method, count in (("plain", plain), ("prism", prism), ("real", prism)):
        set_hits(run, method, [1] * count + [0] * (12 - count))
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"]:
        if result["metric"] == "top1" and result["method"] != "teacher":
            result["value"] = {"plain": plain, "prism": prism, "real": 12}[result["method"]] / 12
    write_json(run / "metrics.json", metrics)
    page, above = Page(write_report(run)), margins(load_run(run), "prism", "plain")
    assert ("Closes" in page.text) == (badge == "change ahead")
    assert badges(page)[:2] == [badge, badge]  # on the original domain, and on the mean of the shifted ones
    places = "from plain prompts on the original domain and on shifted domains"
    assert (f"No significant difference {places}" in page.text) == said
    assert above["id"].significant == above[SHIFTED].significant == (not said)


def test_an_agreement_that_nobody_tested_for_chance_is_not_colored(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["results"] += [row(method, 0, "id", "agreement", TOP1[method]) for method in ("plain", "prism")]
    write_json(run / "metrics.json", metrics)
    page = Page(write_report(run))
    assert "+12.2 vs plain" in page.text and badges(page)[-1] == "change"


def test_a_leader_who_may_lead_by_chance_is_named_as_such(tmp_path: Path) -> None:
    run = make_run(tmp_path, methods=("plain", "dpe", "prism"))
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"]:
        if (result["method"], result["domain"], result["metric"]) == ("dpe", "id", "top1"):
            result["value"] = 0.75
    write_json(run / "metrics.json", metrics)
    said = "The highest mean without real data: DPE only with 75.0% on the original domain (no significant difference)."
    assert said in Page(write_report(run)).text  # they hit the same images


def test_the_worst_and_the_vanished_classes_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, seeds=(0, 1), classes=("bell", "bolt", "mouse"))
    confusion = {0: [[9, 1, 0], [2, 8, 0], [7, 3, 0]], 1: [[9, 1, 0], [2, 7, 1], [6, 3, 1]]}
    for seed, counts in confusion.items():
        write_json(run / f"seed-{seed}" / "prism" / "evaluation.json", {"confusion": counts})
    found = shortfalls(load_run(run))
    assert found is not None and found.classes is not None
    shown = [(line.label, [cell.text for cell in line.cells]) for line in found.classes.rows]
    assert shown[0] == ("mouse", ["5", "10", "bell, 65%"]) and shown[2] == ("bell", ["90", "10", "bolt, 10%"])
    assert "Vanished" in found.vanished and "mouse (in 1 of 2 seeds)" in found.vanished


def test_the_teacher_s_confusion_comes_first_where_a_run_has_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    text = Page(write_report(run)).text
    assert text.index("Confusion against the teacher") < text.index("Confusion against the true class")
    for path in run.glob("seed-*/*/evaluation.json"):
        document = json.loads(path.read_text())
        del document["confusion_teacher"]
        write_json(path, document)
    text = Page(write_report(run)).text
    assert "Confusion against the teacher" not in text and "Confusion against the true class" in text


def test_the_lower_of_precision_and_recall_is_named_against_the_ceiling(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["results"] += [row("real-vs-real", 0, "images", m, v) for m, v in (("precision", 0.9), ("recall", 0.6))]
    write_json(run / "metrics.json", metrics)
    found = reasons(load_run(run))  # PRISM has 0.634 and 0.534
    assert found is not None and found.notes[0] == "Furthest below real images: precision, by 30%."
    assert [column.label for column in found.table.columns] == ["Measure", "PRISM", "Plain", "Real against real"]


def test_a_mean_over_domains_has_an_interval_as_narrow_as_more_images_make_it() -> None:
    results = [Result("plain", 0, domain, "top1", 0.5, (0.4, 0.6)) for domain in "abcd"]
    found = shifted_score(results, "plain")
    assert found is not None and found.interval == pytest.approx((0.45, 0.55))  # 0.1 / sqrt(4)


def test_large_images_are_shrunk_and_small_ones_keep_every_pixel() -> None:
    random = np.random.default_rng(0)
    for size, kind, side in ((32, "png", 32), (64, "webp", 64), (192, "webp", 192), (512, "webp", 192)):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        head, data = picture_url(image, 192).split(",")
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert head == f"data:image/{kind};base64" and picture.size == (side, side)
        assert size > 32 or np.array_equal(np.asarray(picture), image)
        if 32 < size <= 192:  # what is lost can't be seen: less than 3 of 255 levels
            assert np.abs(np.asarray(picture.convert("L"), float) - Image.fromarray(image).convert("L")).mean() < 3


@pytest.mark.parametrize("num_classes", [1000, 10_000])
def test_a_page_of_many_classes_stays_small_and_shows_the_worst_of_them(num_classes: int, tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(num_classes)]
    results = [row("prism", 0, "id", "top1", 0.5)]
    write_json(tmp_path / "metrics.json", {"schema": 1, "results": results, "classes": classes})
    targets = {"energy_target": [-3.0] * num_classes, "energy_all": -3.0, "g_floor": 0.1, "num_images": 0,
               "energies": [], "seconds": 0.0, "per_class_count": list(range(num_classes))}  # fmt: skip
    write_json(tmp_path / "calibration.json", targets)
    if num_classes == 1000:
        confusion = 3 * np.eye(num_classes, dtype=int)
        confusion[777, 778] = 9
        write_json(tmp_path / "seed-0" / "prism" / "evaluation.json", {"confusion": confusion.tolist()})
    page = write_report(tmp_path)
    text = Page(page).text
    assert page.stat().st_size < 1e6
    assert f"the 200 of {num_classes:,} classes with the fewest images" in text
    if num_classes == 1000:
        assert "the 200 of 1,000 classes that PRISM does worst on" in text and "class 777" in text


def test_of_many_classes_those_that_the_students_differ_on_come_first_and_others_are_folded(tmp_path: Path) -> None:
    num_classes = 38
    run = make_run(tmp_path, classes=[f"class {number}" for number in range(num_classes)])
    path = run / "seed-0" / "plain" / "evaluation.json"
    document = json.loads(path.read_text())
    document["confusion"][31] = document["confusion"][0]  # class 31 is always taken for another one, most for class 0
    write_json(path, document)
    page = Page(write_report(run))
    assert f"the 30 of {num_classes} classes on which the students of Plain and PRISM differ most" in page.text
    galleries = page.source.split('id="images"')[1].split('id="energy"')[0].split('<details class="brief">')
    names = [re.findall("<h3>(.*?)</h3>", part) for part in galleries]
    assert names[0] == ["class 31", *(f"class {label}" for label in range(29))]
    assert names[1] == [f"class {label}" for label in (29, 30, *range(32, num_classes))]
    assert [part.count("<img") for part in galleries] == [30 * 2 * 8, 8 * 2 * 4]
    assert "8 more classes" in page.text and "8 more are in senses.json" in page.text
    assert page.text.count("The whole matrix") == 2  # against the teacher, and against the true class


def test_styles_of_one_domain_share_a_row(tmp_path: Path) -> None:
    run = make_run(tmp_path, methods=("prism",))
    path = run / "seed-0" / "prism" / "prompts.json"
    document = json.loads(path.read_text())
    phrases = ("a solid icon of {}", "a red icon of {} on white", "a teal icon of {} on gray")
    names = (("filled", "filled"), ("recolored", "recolored"), ("recolored 2", "recolored"))
    document["plan"]["styles"] = [
        {"name": name, "domain": domain, "phrase": phrase}
        for (name, domain), phrase in zip(names, phrases, strict=True)
    ]
    for subject in document["plan"]["subjects"]:
        subject["weights"] = [0.5, 0.3, 0.2]
    write_json(path, document)
    text = Page(write_report(run)).text
    assert f"filled {phrases[0]} 50% recolored {phrases[1]} and 1 more {phrases[2]} 50%" in text


def test_classes_without_an_image_have_no_row(tmp_path: Path) -> None:
    results = [row("prism", 0, "id", "top1", 0.5)]
    write_json(tmp_path / "metrics.json", {"schema": 1, "results": results, "classes": ["bell", "bolt", "mouse"]})
    confusion = [[1, 1, 0], [0, 0, 0], [0, 0, 2]]
    write_json(tmp_path / "seed-0" / "prism" / "evaluation.json", {"confusion": confusion})
    table = class_table(load_run(tmp_path))
    assert table is not None and [line.label for line in table.rows] == ["bell", "mouse"]
    assert "2 of 3 classes have any" in table.caption


def test_a_page_shows_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "seed-0" / "prism" / "prompts.json").rename(tmp_path / "private.json")
    (run / "seed-0" / "prism" / "prompts.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(UserError, match=r"expected no link at .*prompts\.json"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_full_disk_leaves_the_page_of_before(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = write_report(run).read_bytes()
    with small_files(1000), pytest.raises(UserError, match=r"expected room for .*report\.html, got: File too large"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before and not list(run.glob(".prismkd-*"))


def test_a_page_takes_the_place_of_a_link_of_its_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "report.html").symlink_to("metrics.json")
    before = (run / "metrics.json").read_bytes()
    assert write_report(run).read_bytes() != before == (run / "metrics.json").read_bytes()
