"""A run directory with students, as its stages leave it, made in a moment."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from prismkd.classifiers import save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.config import Config, DistillationConfig, EvaluationConfig

SIDE, NUM_IMAGES = 16, 24
DOMAINS = ("id", "sketch")
METHODS = ("real", "plain", "prism")


def make_run(
    folder: Path,
    names: list[str],
    architecture: str = "small-resnet-4",
    channels: int = 1,
    arguments: dict[str, Any] | None = None,
    seeds: tuple[int, ...] = (0, 1),
) -> Path:
    """Untrained students whose batch norm isn't the identity, and figures that were never measured."""
    folder.mkdir(parents=True)
    config = replace(
        Config(),
        methods=METHODS,
        seeds=seeds,
        distillation=DistillationConfig(architecture=architecture),
        evaluation=EvaluationConfig(source=str(write_test(folder / "test.parquet", len(names), channels))),
    )
    classes = [{"name": name} for name in names]
    command = "prismkd run --out <script>alert(1)</script>"
    write(folder / "run.json", {"schema": 1, "command": command, "config": asdict(config), "classes": classes,
                                "started": "2026-01-02T03:04:05+00:00", "version": "0.1.0"})  # fmt: skip
    results = [_row("teacher", 0, domain, "top1", 0.9) for domain in DOMAINS]
    for seed in seeds:
        for place, method in enumerate(METHODS):
            dataset = folder / f"seed-{seed}" / method
            _save_student(dataset / "student", seed, architecture, len(names), channels, arguments or {})
            rows = [_row(method, seed, domain, metric, 0.5 + 0.1 * place + 0.02 * seed)
                    for domain in DOMAINS for metric in ("top1", "agreement", "ece")]  # fmt: skip
            write(dataset / "evaluation.json", {"results": rows})
            examples = [{"text": f"a drawing of {name}"} for name in names]
            write(dataset / "prompts.json", {"examples": examples})
            results += rows
    write(folder / "metrics.json", {"schema": 1, "results": results, "classes": names, "hardware": "an abacus"})
    return folder


def _save_student(
    folder: Path, seed: int, architecture: str, num_classes: int, channels: int, arguments: dict[str, Any]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = new_network(architecture, num_classes, in_channels=channels, **arguments)
        network.train()
        for _ in range(3):
            network(torch.rand(8, channels, SIDE, SIDE))
    config = {"architecture": architecture, "num_classes": num_classes, "in_channels": channels}
    save_classifier(folder, network, config | ({"arguments": arguments} if arguments else {}))
    write(folder / "log.json", {"seconds": 1.0, "images": 96, "log": []})


def _row(method: str, seed: int, domain: str, metric: str, value: float) -> dict[str, Any]:
    return {"method": method, "seed": seed, "domain": domain, "metric": metric, "value": value, "n": NUM_IMAGES,
            "ci95": [value - 0.05, value + 0.05]}  # fmt: skip


def write_test(path: Path, num_classes: int, channels: int) -> Path:
    """Noise as labeled test images."""
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE) if channels == 1 else (SIDE, SIDE, channels)
    images = []
    for _ in range(NUM_IMAGES * len(DOMAINS)):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    labels = [place % num_classes for place in range(len(images))]
    domains = [domain for domain in DOMAINS for _ in range(NUM_IMAGES)]
    pq.write_table(pa.table({"image": images, "label": labels, "domain": domains}), path)
    return path


def write(path: Path, data: Any) -> None:
    """A JSON file of the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
