"""One-shot federated distillation: five teachers that know other classes and other hands, and one student of all.

Usage: python -m benchmarks.federated [--seed S ...]

The teachers' families are disjoint and each knows 14 of the 24 classes of ``pictograms-24``; architectures and
preprocessing differ too. No image leaves a teacher's owner: the student sees synthetic images only, drawn by
`prismkd run` with the five as its teacher, and learns from the prompts' classes and from the teachers that know them.
Beside it stand each teacher alone and the plain average of the logits of all who know a class. Everything, the split of
the classes included, is done anew for each of three seeds, in ``runs/federated-HASH``, the hash being that of all
settings; the same command continues where it was stopped, and seeds may run side by side. Once all are there, it writes
``benchmarks/results/federated.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.cells import Cells, folder_of
from benchmarks.embedded import SUBSET, embedded_session
from benchmarks.pictograms.classifiers import HALF, fit
from benchmarks.pictograms.pictures import SIZE
from benchmarks.publish import ROOT, write_results
from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import Ensemble, load_teacher, predict, save_classifier
from prismkd.cli import main as prismkd
from prismkd.config.seeds import derive
from prismkd.data import LabeledImages, load_labeled_images
from prismkd.records.directory import read_json
from prismkd.records.shapes import Metrics

SEEDS = (0, 1, 2)
NAMES = [item.name for item in load_classes(SUBSET.classes)]
NUM_CLASSES, NUM_KNOWN, NUM_STEPS = len(NAMES), 14, 500
NUM_STUDENT_STEPS = 1600  # as in the demo, which has these 24 classes too
CONFIG = ROOT / "configs" / "pictograms.toml"
# Chosen by benchmarks/federated_choice.py, on icons that no teacher saw.
ID_SHARE, IMAGES_PER_CLASS, STUDENT, HARD_LABEL_WEIGHT = 0.5, 80, "small-resnet-32", 0.8
SMALL = {"arguments": {"num_halvings": 2}}
TEACHERS: list[dict[str, Any]] = [
    {"architecture": "small-resnet-32x2", **SMALL},
    {"architecture": "small-resnet-16", **SMALL, **HALF},
    {"architecture": "small-resnet-24x2", **SMALL, "input_size": 48},
    {"architecture": "convnext_atto", **HALF,
     "arguments": {"patch_size": 4, "depths": [1, 1, 2, 1], "dims": [24, 48, 96, 96]}},
    {"architecture": "vit_tiny_patch16_224", **HALF, "input_size": SIZE,
     "arguments": {"img_size": SIZE, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4}},
]  # fmt: skip


def owners(families: list[str]) -> dict[str, int]:
    """The teacher of each family, given the family of every icon.

    The largest family first, each goes to whoever has the fewest icons so far.
    """
    num_icons, owner = [0] * len(TEACHERS), dict[str, int]()
    for family, count in sorted(Counter(families).items(), key=lambda item: (-item[1], item[0])):
        owner[family] = num_icons.index(min(num_icons))
        num_icons[owner[family]] += count
    return owner


def known_classes(seed: int) -> list[list[int]]:
    """14 of the 24 classes for each teacher, so that each class is known by two or three of them."""
    # Windows of 14 on a circle of the classes in random order, evenly spaced.
    order = np.random.default_rng(seed).permutation(NUM_CLASSES)
    starts = [round(number * NUM_CLASSES / len(TEACHERS)) for number in range(len(TEACHERS))]
    return [sorted(order[[(start + step) % NUM_CLASSES for step in range(NUM_KNOWN)]].tolist()) for start in starts]


def icons() -> tuple[LabeledImages, list[str]]:
    """All icons of these classes that teachers are trained on, and the family of each."""
    path, every = asset("real.parquet"), [item.name for item in load_classes("pictograms")]
    # Of all classes first, since the families are listed in the file's order
    real = load_labeled_images(path, ClassLabels([[name] for name in every]))
    names, families = [every[label] for label in real.labels], pq.read_table(path)["family"].to_pylist()
    places = np.flatnonzero(np.isin(names, NAMES))
    labels = torch.tensor([NAMES.index(names[place]) for place in places])
    return replace(real.subset(places), labels=labels), [families[place] for place in places]


def train_teachers(folder: Path, seed: int, left_out: Collection[str] = (), num_steps: int = NUM_STEPS) -> Path:
    """Train the teachers that aren't there yet, each on its own icons.

    Args:
        folder: gets a folder per teacher, and their list.
        seed: of the split of the classes and of the training.
        left_out: families that no teacher sees.
        num_steps: of each teacher's training.

    Returns:
        The file that lists them all, as the setting ``teacher`` takes it.
    """
    real, families = icons()
    owner, lines = owners(families), []
    for number, (settings, known) in enumerate(zip(TEACHERS, known_classes(seed), strict=True)):
        icons_of_teacher = np.array([owner[family] == number and family not in left_out for family in families])
        icons_of_teacher &= np.isin(real.labels.numpy(), known)
        config = {**settings, "num_classes": NUM_KNOWN, "in_channels": 3, "label_names": [NAMES[k] for k in known]}
        lines.append(f'[[teacher]]\nsource = "teacher-{number}"\n')
        if not (folder / f"teacher-{number}" / "model.safetensors").is_file():
            torch.manual_seed(derive(seed, "teacher", number))
            labels = torch.tensor([known.index(label) for label in real.labels[icons_of_teacher].tolist()])
            images = _at_input_size(real.images[icons_of_teacher], config)
            network = fit(config, images, labels, num_steps, 2e-3)
            save_classifier(folder / f"teacher-{number}", network, config)
            print(f"seed {seed}, teacher {number}: {len(labels)} icons", file=sys.stderr, flush=True)
    # The list names no classes: each teacher's folder carries them (label_names), as an owner would give it.
    (folder / "teachers.toml").write_text("\n".join(lines))
    return folder / "teachers.toml"


def _at_input_size(images: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """Images at the size that the teacher takes."""
    size = config.get("input_size", SIZE)
    return torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Train the teachers, run prismkd with them, and measure everyone's top-1 on every domain of the test."""
    teachers = train_teachers(folder / f"seed-{seed}" / "teachers", seed)
    run = folder / f"seed-{seed}" / "run"
    code = prismkd(["run", "--config", str(CONFIG), "--out", str(run), "--classes", SUBSET.classes,
                    "--teacher", str(teachers), "--seeds", str(seed), "--methods", "prism",
                    "--prompts.id-share", str(ID_SHARE),
                    "--synthesis.images-per-class", str(IMAGES_PER_CLASS), "--distillation.architecture", STUDENT,
                    "--distillation.hard-label-weight", str(HARD_LABEL_WEIGHT),
                    "--distillation.num-steps", str(NUM_STUDENT_STEPS)])  # fmt: skip
    assert code == 0
    rows = [
        {"who": row["method"], "seed": seed, "domain": row["domain"], "top1": row["value"]}
        for row in read_json(run / "metrics.json", Metrics)["results"]
        if row["metric"] == "top1" and row["method"] != "teacher"  # that is the plain average, which the rivals have
    ]
    return {"rows": rows + [{**row, "seed": seed} for row in _rivals(teachers, embedded_session().test)]}


def _rivals(teachers: Path, test: LabeledImages) -> list[dict[str, Any]]:
    """Each teacher alone, and the plain average of their logits."""
    ensemble = load_teacher(str(teachers), NAMES)
    assert isinstance(ensemble, Ensemble)
    predictions = {"plain average": predict(ensemble, test.images).argmax(1)}
    for number, member in enumerate(ensemble.members):
        known = ensemble.known[number].nonzero().flatten()
        predictions[f"teacher {number}"] = known[predict(member, test.images).argmax(1)]
    rows = []
    for who, predicted in predictions.items():
        for domain in sorted(set(test.domains)):
            in_domain = torch.from_numpy(test.domains == domain)
            top1 = (predicted == test.labels)[in_domain].float().mean()
            rows.append({"who": who, "domain": domain, "top1": round(float(top1), 5)})
    alone = [row for row in rows if row["who"].startswith("teacher") and row["domain"] == "id"]
    best = max(alone, key=lambda row: row["top1"])["who"]  # on the test itself: the hardest rival
    return rows + [{**row, "who": "best single teacher"} for row in rows if row["who"] == best]


def main() -> None:
    """Measure the seeds that aren't measured yet; record them once all are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="default: all")
    settings = (TEACHERS, NUM_KNOWN, NUM_STEPS, ID_SHARE, IMAGES_PER_CLASS, STUDENT, HARD_LABEL_WEIGHT,
                NUM_STUDENT_STEPS)  # fmt: skip
    cells = Cells(folder_of("federated", embedded_session(), *settings, CONFIG.read_text()))
    for seed in parser.parse_args().seed or SEEDS:
        cells.get(f"seed {seed}", partial(measure, cells.folder, seed))
    if all(cells.has(f"seed {seed}") for seed in SEEDS):
        rows = [row for seed in SEEDS for row in cells.get(f"seed {seed}", dict)["rows"]]
        write_results("federated", "python -m benchmarks.federated", SEEDS, {"rows": rows})


if __name__ == "__main__":
    main()
