"""Runs that no command made, and a page as a browser's parser sees it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from prismkd.shards import Sample, write_shard

HOSTILE = """<script>alert(1)</script></style></title>'"&<img src=x onerror=alert(1)>"""
CLASSES = ("bell", HOSTILE, "mouse")
TOP1 = {"plain": 0.612, "eda": 0.65, "dpe": 0.66, "prism": 0.734, HOSTILE: 0.7, "real": 0.812, "teacher": 0.869}
HITS = {"n": 8, "hits": base64.b64encode(bytes([0b11110000])).decode(), "images": "one"}  # 4 of 8 are right
DOMAINS = {"id": HITS, "outline": HITS, "pixel": HITS}
SHIFTED = {"outline": -0.2, "pixel": -0.3}
HELD_OUT = {"synthetic plain": 0.1, "synthetic diverse": 0.0}
LOG = {
    "seconds": 9.0,
    "images": 30,
    "log": [{"step": 400, "loss": 1.0, "lr": 0.0}],
    "curve": [8.0 / (1 + part) for part in range(40)],
    "train_agreement": 0.97,
    "train_top1": 0.93,
    "warnings": [],
}


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
                write_method(folder / f"seed-{seed}" / method.replace("/", "|"), method, classes)
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
            "classes": [{"name": name} for name in classes],
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


def without_test_images(run: Path, *, judge: bool = False) -> Path:
    """The same run, had it had no test images: agreement with the teacher on held-out synthetic ones."""
    metrics = json.loads((run / "metrics.json").read_text())
    of_images = [r for r in metrics["results"] if r["domain"] == "images" and r["metric"] == "precision"]
    judged = [row(r["method"], r["seed"], "images", "vendi", 5.0) for r in of_images] if judge else []
    agreements = [
        row(r["method"], r["seed"], domain, "agreement", r["value"] + shift)
        for r in metrics["results"]
        if (r["domain"], r["metric"]) == ("id", "top1") and r["method"] != "teacher"
        for domain, shift in HELD_OUT.items()
    ]
    prompted = [row("teacher", 0, domain, "prompted", 0.85 + shift) for domain, shift in HELD_OUT.items()]
    write_json(run / "metrics.json", metrics | {"results": [*agreements, *prompted, *judged]})
    for path in run.glob("seed-*/*/evaluation.json"):
        document = json.loads(path.read_text())
        del document["confusion"]
        write_json(path, document | {"domains": dict.fromkeys(HELD_OUT, HITS)})
    return run


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
    followed = (7 * np.eye(len(classes)) + 2).astype(int).tolist()
    write_json(folder / "student" / "log.json", LOG)
    write_json(
        folder / "evaluation.json",
        {"results": [], "confusion": confusion, "confusion_teacher": followed, "energy": energy, "domains": DOMAINS},
    )
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
        self.unclosed: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img"):
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.unclosed[-1:] == [tag]:
            self.unclosed.pop()

    def handle_data(self, data: str) -> None:
        if self.elements and self.lasttag not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]
