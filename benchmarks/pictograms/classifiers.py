"""Train the embedded world's teacher, and the judge that measures images independently of it.

Usage: python -m benchmarks.pictograms.classifiers [--cache DIR]

The teacher sees only the filled icons of the teacher families. The judge is of another architecture and sees every
style, from the teacher families and from the class icons of the generator families, a share of them in other colors.
Neither sees a test family. It needs the cache of ``build.py``, and writes the folders ``teacher`` and ``judge`` and
their figures, ``classifiers.json``, into ``assets/pictograms``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.pictograms.autoencoder import recolored
from benchmarks.pictograms.build import ASSETS, CACHE
from benchmarks.pictograms.classes import CLASSES
from benchmarks.pictograms.generator_set import read_generator_set
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import count_parameters, predict, save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.classifiers.precision import fast_matmul
from prismkd.classifiers.views import random_views
from prismkd.data import LabeledImages, load_labeled_images

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
SHAPE = {"num_classes": len(CLASSES), "in_channels": 3}
TEACHER = {"architecture": "small-resnet-32x2", **SHAPE, "arguments": {"num_halvings": 2}}
JUDGE = {
    "architecture": "ese_vovnet19b_slim",
    **SHAPE,
    **HALF,
    "arguments": {
        "stem_chs": [32, 32, 32],
        "stage_conv_chs": [32, 48, 64, 80],
        "stage_out_chs": [64, 128, 256, 384],
    },
}


def fit(
    config: dict,
    images: Tensor,
    labels: Tensor,
    num_steps: int,
    learning_rate: float,
    views: Callable[[Tensor], Tensor] = random_views,
) -> torch.nn.Module:
    """Train a classifier with augmentation, class-balanced batches and a cosine schedule.

    Args:
        config: ``architecture``, ``num_classes``, ``in_channels``, and perhaps ``arguments``, ``mean`` and ``std``.
        images: (n, channels, height, width) in [0, 1], of the network's input size.
        labels: (n,).
        num_steps: of 128 images each.
        learning_rate: its peak.
        views: what it sees of a batch.
    """
    extra = {"in_channels": config["in_channels"], **config.get("arguments", {})}
    network = new_network(config["architecture"], config["num_classes"], **extra).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.05)
    weights = 1.0 / torch.bincount(labels)[labels]  # every class is as likely as any other
    for step in range(num_steps):
        warm_up = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * step / num_steps))
        index = torch.multinomial(weights, 128, replacement=True)
        x = views(images[index]).contiguous(memory_format=torch.channels_last)
        x = (x - config["mean"][0]) / config["std"][0] if "mean" in config else x
        with fast_matmul(images.device):
            loss = F.cross_entropy(network(x).float(), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 250 == 0:
            print(f"{config['architecture']} step {step + 1} loss {loss:.3f}", flush=True)
    return network


def figures(network: torch.nn.Module, config: dict, test: LabeledImages, num_images: int) -> dict:
    """Parameters, training images and top-1 per test domain."""
    shift, scale = (config["mean"][0], config["std"][0]) if "mean" in config else (0.0, 1.0)
    correct = (predict(network, (test.images - shift) / scale).argmax(1) == test.labels).numpy()
    top1 = {domain: round(float(correct[test.domains == domain].mean()), 4) for domain in sorted(set(test.domains))}
    return {"architecture": config["architecture"], "parameters": count_parameters(network),
            "training_images": num_images, "top1": top1}  # fmt: skip


def judge_data(cache: Path, real: LabeledImages) -> tuple[Tensor, Tensor]:
    """Class icons of every style from generator and teacher families."""
    icons = read_generator_set(cache)
    positions = np.flatnonzero(icons.labels >= 0)
    images = icons.images(positions.tolist())
    return torch.cat([real.images, images]), torch.cat([real.labels, torch.from_numpy(icons.labels[positions]).long()])


def colored_views(images: Tensor) -> Tensor:
    """Random views, in which a share of the gray icons has other colors."""
    return random_views(recolored(images))


def main() -> None:
    """Train both, save them, and record their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--only", choices=("teacher", "judge"), action="append", help="default: all")
    args = parser.parse_args()
    labels = ClassLabels([[rule.name] for rule in CLASSES])
    real, test = (load_labeled_images(ASSETS / f"{name}.parquet", labels) for name in ("real", "test"))
    path = ASSETS / "classifiers.json"
    record = json.loads(path.read_text()) if args.only and path.is_file() else {}
    for name, config, steps, views in (
        ("teacher", TEACHER, 2500, random_views),
        ("judge", JUDGE, 2500, colored_views),
    ):
        if args.only and name not in args.only:
            continue
        torch.manual_seed(0)
        images, targets = judge_data(args.cache, real) if name == "judge" else (real.images, real.labels)
        network = fit(config, images, targets, steps, 2e-3, views)
        save_classifier(ASSETS / name, network, config)
        record[name] = figures(network, config, test, len(images))
        print(name, record[name], flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
