"""The report is one safe, complete page, and its numbers are the run's."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prismkd.errors import UserError
from prismkd.report import write_report
from prismkd.report.scores import Result, best, score, shifted_score
from prismkd.shards import Sample, write_shard

HOSTILE = "<script>alert(1)</script>"
CLASSES = ("bell", HOSTILE, "mouse")
TOP1 = {"plain": 0.612, "prism": 0.734, "real": 0.812, "teacher": 0.869}
SHIFTED = {"outline": -0.2, "pixel": -0.3}


def make_run(
    folder: Path,
    methods: Sequence[str] = ("plain", "prism", "teacher", "real"),
    seeds: Sequence[int] = (0,),
    classes: Sequence[str] = CLASSES,
) -> Path:
    """A run directory as `prismkd run` leaves it, with random images; a seed adds one point of accuracy."""
    results = []
    for method in methods:
        for seed in seeds:
            top1 = TOP1[method] + 0.01 * seed
            for domain, shift in {"id": 0.0, **SHIFTED}.items():
                results.append(row(method, seed, domain, "top1", top1 + shift))
                results.append(row(method, seed, domain, "ece", 0.04))
            if method != "teacher":
                results.append(row(method, seed, "images", "precision", top1 - 0.1))
                results.append(row(method, seed, "images", "recall", top1 - 0.2))
                write_method(folder / f"seed-{seed}" / method, method, classes)
    timings = [{"stage": "synthesis", "method": m, "seed": 0, "seconds": 75, "images": 300} for m in methods]
    calibration = {
        "energy_target": [-3.0] * len(classes),
        "energy_all": -3.2,
        "g_floor": 0.1,
        "num_images": 9,
        "seconds": 2.0,
        "per_class_count": [3] * len(classes),
        "energies": [-3.0, -3.5, -2.0],
    }
    write_json(
        folder / "run.json",
        {
            "schema": 1,
            "command": f"prismkd run --out {HOSTILE}",
            "started": "2026-01-02",
            "version": "0.1.0",
            "config": {"guidance": {"strength": 0.15}},
        },
    )
    write_json(folder / "calibration.json", calibration)
    write_senses(folder, classes)
    write_json(
        folder / "metrics.json",
        {
            "schema": 1,
            "results": results,
            "timings": timings,
            "classes": list(classes),
            "command": "prismkd run",
            "hardware": "2 CPU cores",
            "date": "2026-01-02",
        },
    )
    return folder


def row(method: str, seed: int, domain: str, metric: str, value: float) -> dict[str, Any]:
    return {
        "method": method,
        "seed": seed,
        "domain": domain,
        "metric": metric,
        "value": value,
        "n": 500,
        "ci95": [value - 0.03, value + 0.03],
    }


def write_method(folder: Path, method: str, classes: Sequence[str]) -> None:
    random = np.random.default_rng(len(method))
    guided = random.normal(-4, 1, 60).tolist() if method == "prism" else []
    energy = {"before": random.normal(-3, 1, len(guided)).tolist(), "after": guided}
    confusion = (9 * np.eye(len(classes)) + 1).astype(int).tolist()
    write_json(folder / "evaluation.json", {"results": [], "confusion": confusion, "energy": energy})
    if method == "real":
        return
    examples = [
        {"index": i, "class_name": name, "label": i, "text": f"an icon of a {name}", "style": "flat", "seed": i}
        for i, name in enumerate(classes)
    ]
    write_json(
        folder / "prompts.json",
        {
            "plan": {
                "subjects": [
                    {
                        "class_name": name,
                        "text": name,
                        "contents": ["a {}", f"a {HOSTILE} {{}}"],
                        "weights": [0.75, 0.25],
                    }
                    for name in classes
                ],
                "styles": [{"name": "flat", "phrase": "flat style"}, {"name": HOSTILE, "phrase": ""}],
            },
            "num_images": 30,
            "plan_hash": "0",
            "examples": examples,
        },
    )
    samples = []
    for index in range(10 * len(classes)):
        label = index % len(classes)
        image = random.integers(0, 256, (8, 8), dtype=np.uint8)
        metadata = {"prompt": f'{method} "{classes[label]}" {index}', "teacher_top1": label if index % 4 else 0}
        samples.append(Sample(index, image, label, metadata))
    write_shard(folder / "images", 0, samples, "0")


def write_senses(folder: Path, classes: Sequence[str]) -> None:
    """Two wordings a class with two probes each; the second wording wins; the last class is a tie."""
    wordings = [
        {"text": f"{HOSTILE} {number}", "source": "name", "score": {"log_probability": number - 2.0, "error": 0.1,
                                                                     "energy": -9.0, "agreement": 0.5}}
        for number in range(2)
    ]  # fmt: skip
    senses = [
        {"class_name": name, "chosen": 1, "wordings": wordings, "tie": name == classes[-1], "lost": False}
        for name in classes
    ]
    write_json(folder / "senses.json", {"seconds": 1.0, "images": 4 * len(classes), "senses": senses})
    dropped = [{"class_name": HOSTILE, "content": f"a {HOSTILE}", "reason": "it loses the class"}]
    write_json(folder / "contents.json", {"contents": [], "dropped": dropped})
    image = np.zeros((8, 8), dtype=np.uint8)
    samples = [
        Sample(index, image, index // 4, {"prompt": f"probe {index}", "teacher_top1": 0})
        for index in range(4 * len(classes))
    ]
    write_shard(folder / "probes" / "senses", 0, samples, "0")


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


class Page(HTMLParser):
    """Elements and text as a browser's parser sees them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.elements and self.lasttag not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    loads = [a[key] for _, a in page.elements for key in ("src", "href", "srcset", "data", "action") if key in a]
    assert loads and all(link.startswith(("data:image/png;base64,", "#")) for link in loads)
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.elements}
    assert "@import" not in page.source and "url(" not in page.source
    assert "http://" not in page.source and "https://" not in page.source


def test_hostile_names_are_text(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text
    assert any(image["alt"].startswith(f'plain "{HOSTILE}" 1') for image in page.all("img"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_the_policy_allows_the_page_s_own_script_only(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    script = page.source.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_the_numbers_of_the_run_are_shown(tmp_path: Path) -> None:
    text = Page(write_report(make_run(tmp_path))).text
    assert "The PRISM student reaches 73.4% on the original domain and 48.4% on shifted domains: " in text
    assert "12.2 and 12.2 points above plain prompts." in text
    assert "Real images 81.2% Teacher 86.9%" in text and "Real images 56.2% Teacher 61.9%" in text
    assert "Closes 61% of the gap to real images" in text  # (73.4 - 61.2) / (81.2 - 61.2)
    for shown in ("61.2", "73.4", "81.2", "86.9", "0.634", "4.0", "1 min 15 s", "2 CPU cores", '"strength": 0.15'):
        assert shown in text


def test_seeds_are_averaged_and_their_spread_shown(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path, seeds=(0, 1, 2))))
    assert "\u00b1 1.0" in page.text  # standard deviation of 0, 1 and 2 points
    assert "reaches 74.4% on the original domain" in page.text
    assert "ahead of plain prompts in 3 of 3 on the original domain and in 3 of 3 on shifted domains" in page.text


def test_a_worse_student_is_not_praised(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"]:
        if result["method"] == "prism" and result["domain"] != "id":
            result["value"] -= 0.2
    write_json(run / "metrics.json", metrics)
    assert "12.2 points above and 7.8 points below plain prompts" in Page(write_report(run)).text


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
    assert ids == {"main", "accuracy", "provenance"}


def test_missing_metrics_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected .*metrics\.json, got no such file; do: run `prismkd run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "JSON object"),
        ('{"schema": 2}', "expected schema 1"),
        ('{"schema": 1, "results": [{"method": "plain"}]}', "expected rows with"),
    ],
)
def test_damaged_metrics_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=rf"{message}.*metrics\.json.*; do: "):
        write_report(tmp_path)


def test_the_page_can_be_read_without_seeing_it(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(figure.get("aria-label") or figure.get("aria-hidden") for figure in page.all("svg"))
    assert all(image["alt"] for image in page.all("img"))
    assert all("scope" in heading for heading in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))


def test_figures_are_well_formed(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    figures = re.findall(r"<svg.*?</svg>", page.source, flags=re.DOTALL)
    assert len(figures) >= 6
    for figure in figures:
        ElementTree.fromstring(figure)
        assert "nan" not in figure and "inf" not in figure.replace("information", "")


def test_images_of_one_column_share_their_index(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    indices = {
        m: [re.findall(r"\d+", i["alt"].split("\u2014")[0])[-1] for i in page.all("img") if i["alt"].startswith(m)]
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
    assert "The best without real data: Plain, more with 75.0% on the original domain." in Page(write_report(run)).text


def test_methods_with_the_same_prompts_share_an_entry(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    assert "PRISM · Plain" in page.text and len(page.all("details")) == 2  # the other is the configuration


def test_senses_come_with_their_probes_and_those_to_look_at_first(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    cards = page.text.split("Classes to look at come first.")[1].split("Prompts")[0]
    assert cards.index(f"{CLASSES[-1]} a tie") < cards.index(CLASSES[0])
    assert f"{HOSTILE} 1 name -1.00" in cards
    groups = [a for _, a in page.elements if a.get("class", "").startswith("wording")]
    assert [a["class"] for a in groups[:2]] == ["wording", "wording chosen"]
    probes = [image["alt"].split(" \u2014")[0] for image in page.all("img") if image["alt"].startswith("probe")]
    assert probes == [f"probe {i}" for i in (*range(8, 12), *range(8))]


def test_prompts_stand_beside_their_images_and_dropped_contents_beside_the_reason(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    beside = [image["title"] for image in page.all("img") if image["alt"] == "the image of this prompt"]
    assert beside[0].startswith('prism "bell" 0') and len(beside) >= len(CLASSES)
    assert f"a {HOSTILE} it loses the class" in page.text


def test_a_run_without_senses_has_no_such_section(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "senses.json").unlink()
    (run / "contents.json").unlink()
    assert 'id="senses"' not in write_report(run).read_text()
